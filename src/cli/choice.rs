//! Values of options whose types are of other crates, where `clap::ValueEnum` cannot be implemented.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

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
