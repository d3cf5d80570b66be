//! Values of options whose types are of other crates, where `clap::ValueEnum` cannot be implemented.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Arg, Command};

/// One of a few values.
pub trait Choice: Copy + Send + Sync + 'static {
    /// All of them, as the help lists them.
    const ALL: &[Self];

    /// Its name and its help.
    fn value(self) -> PossibleValue;
}

/// Reads the name of one of them.
pub(super) fn choice<T: Choice>() -> impl TypedValueParser<Value = T> {
    let named = |choice: T, name: &str| choice.value().get_name() == name;
    PossibleValuesParser::new(T::ALL.iter().map(|choice| choice.value())).map(move |name| {
        let found = T::ALL.iter().copied().find(|choice| named(*choice, &name));
        found.expect("the parser lets no other name pass")
    })
}

/// One of these words, in capitals or not. The help of the option tells them; completion knows them too.
#[derive(Clone)]
pub(super) struct OneOf<T: 'static> {
    all: &'static [T],
    word: fn(T) -> &'static str,
}

/// Reads one of these words.
pub(super) const fn one_of<T>(all: &'static [T], word: fn(T) -> &'static str) -> OneOf<T> {
    OneOf { all, word }
}

impl<T: Copy + Send + Sync + 'static> TypedValueParser for OneOf<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        let Self { all, word } = *self;
        let read = move |text: &str| {
            let found = all.iter().copied().find(|one| word(*one).eq_ignore_ascii_case(text));
            found.ok_or_else(|| {
                let words: Vec<_> = all.iter().map(|one| word(*one)).collect();
                format!("expected one of {}", words.join(", "))
            })
        };
        read.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.all.iter().map(|one| PossibleValue::new((self.word)(*one)))))
    }
}
