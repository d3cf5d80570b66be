#![no_main]

use libfuzzer_sys::fuzz_target;
use tasker::domain::Selector;

// What is read as a selector has a spelling that is read as the same one, and decides about any endpoint.
fuzz_target!(|text: &str| {
    let Ok(selector) = text.parse::<Selector>() else { return };
    let again: Selector = selector.to_string().parse().expect("its spelling is a selector");
    assert_eq!(selector, again);
    for value in [None, Some(""), Some("berlin"), Some(text)] {
        assert_eq!(selector.matches(|_| value), again.matches(|_| value));
    }
});
