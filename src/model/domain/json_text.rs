//! JSON that is written piece by piece: what is passed on stays as it was written.

use super::json;

/// Writes a list.
///
/// # Errors
/// The first that writing an item has.
pub fn write_list<T, E>(
    to: &mut String,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(T, &mut String) -> Result<(), E>,
) -> Result<(), E> {
    to.push('[');
    for (place, item) in items.into_iter().enumerate() {
        to.push_str(if place > 0 { "," } else { "" });
        write(item, to)?;
    }
    to.push(']');
    Ok(())
}

/// Writes an object.
///
/// # Errors
/// The first that writing a member has.
pub fn write_object<N: AsRef<str>, T, E>(
    to: &mut String,
    members: impl IntoIterator<Item = (N, T)>,
    mut write: impl FnMut(T, &mut String) -> Result<(), E>,
) -> Result<(), E> {
    to.push('{');
    for (place, (name, member)) in members.into_iter().enumerate() {
        to.push_str(if place > 0 { "," } else { "" });
        *to += json(&name.as_ref()).get();
        to.push(':');
        write(member, to)?;
    }
    to.push('}');
    Ok(())
}
