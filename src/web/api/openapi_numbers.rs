//! How the description of the interface names whole numbers that have no sign.
//!
//! Their Rust types have formats of their own (`uint32`), from which readers of a description take no bound, and
//! which not all generators of clients know. So they get the next larger format that everybody knows, and their
//! largest value. A number of 64 bits has no larger format: what is beyond an `int64` is described as wrong and
//! is accepted.

use utoipa::Number;
use utoipa::openapi::header::Header;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{AdditionalProperties, ArrayItems, KnownFormat, SchemaFormat};
use utoipa::openapi::{Content, OpenApi, RefOr, Schema};

/// Gives all whole numbers of a document their format and their bound.
pub(super) fn give_bounds(document: &mut OpenApi) {
    document.components.iter_mut().flat_map(|parts| parts.schemas.values_mut()).for_each(bound);
    document.paths.paths.values_mut().flat_map(operations).for_each(bound_operation);
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
}

fn bound_operation(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten().filter_map(here) {
        parameter.schema.iter_mut().for_each(bound);
    }
    operation
        .request_body
        .iter_mut()
        .filter_map(here)
        .for_each(|body| bound_contents(body.content.values_mut()));
    for response in operation.responses.responses.values_mut().filter_map(here) {
        bound_contents(response.content.values_mut());
        let headers = response.headers.values_mut().filter_map(here);
        headers.filter_map(|Header { schema, .. }| schema.as_mut()).for_each(bound);
    }
}

fn bound_contents<'a>(contents: impl Iterator<Item = &'a mut RefOr<Content>>) {
    contents.filter_map(here).filter_map(|content| content.schema.as_mut()).for_each(bound);
}

/// What stands here, if it is not a reference to what stands elsewhere.
fn here<T>(part: &mut RefOr<T>) -> Option<&mut T> {
    match part {
        RefOr::T(part) => Some(part),
        RefOr::Ref(_) => None,
    }
}

fn bound(schema: &mut RefOr<Schema>) {
    match here(schema) {
        Some(Schema::Object(object)) => {
            let known = match &object.format {
                Some(SchemaFormat::KnownFormat(KnownFormat::UInt8)) => {
                    Some((KnownFormat::Int32, Some(u32::from(u8::MAX))))
                }
                Some(SchemaFormat::KnownFormat(KnownFormat::UInt16)) => {
                    Some((KnownFormat::Int32, Some(u32::from(u16::MAX))))
                }
                Some(SchemaFormat::KnownFormat(KnownFormat::UInt32)) => {
                    Some((KnownFormat::Int64, Some(u32::MAX)))
                }
                Some(SchemaFormat::KnownFormat(KnownFormat::UInt64)) => Some((KnownFormat::Int64, None)),
                _ => None,
            };
            if let Some((format, largest)) = known {
                object.format = Some(SchemaFormat::KnownFormat(format));
                object.maximum = object.maximum.take().or(largest.map(Number::from));
            }
            object.properties.values_mut().for_each(bound);
            if let Some(AdditionalProperties::RefOr(schema)) = object.additional_properties.as_deref_mut() {
                bound(schema);
            }
        }
        Some(Schema::Array(array)) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                bound(items);
            }
        }
        Some(Schema::OneOf(several)) => several.items.iter_mut().for_each(bound),
        Some(Schema::AllOf(several)) => several.items.iter_mut().for_each(bound),
        Some(Schema::AnyOf(several)) => several.items.iter_mut().for_each(bound),
        _ => {}
    }
}
