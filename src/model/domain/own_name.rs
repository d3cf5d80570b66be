//! Where an endpoint names itself in what it says.
//!
//! The name counts where neither a letter nor a digit stands beside it: `web1` does in `/var/log/web1-2.log`
//! and in `web1.example.com`, not in `web12`. So an endpoint called `a` does not hide the `a` in other words.

use std::iter;

/// Stands for the name where texts are compared: a byte that is in no text.
pub(super) const MASK: u8 = 0xFF;

/// The parts of a text between the places where it has the name: one more than there are places. The whole
/// for an empty name.
pub(super) fn parts<'t>(text: &'t str, name: &str) -> impl Iterator<Item = &'t str> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let text = rest?;
        let (part, after) = match place(text, name) {
            Some(at) => (&text[..at], Some(&text[at + name.len()..])),
            None => (text, None),
        };
        rest = after;
        Some(part)
    })
}

/// A text for people, with a word in the place of the name.
pub(super) fn replaced(text: &str, name: &str, by: &str) -> String {
    parts(text, name).collect::<Vec<_>>().join(by)
}

/// The first place where a text has the name. What follows such a place begins with no letter or digit, so
/// the rest of a text is looked through like a text of its own.
fn place(text: &str, name: &str) -> Option<usize> {
    let first = name.bytes().next()?;
    let last = text.len().checked_sub(name.len())?;
    let mut from = 0;
    // Texts are short, and a search that is made for long ones takes longer to begin than this to end.
    while let Some(at) =
        text.as_bytes()[from..=last].iter().position(|byte| *byte == first).map(|at| from + at)
    {
        let here = text.as_bytes()[at..].starts_with(name.as_bytes());
        if here
            && !text[..at].ends_with(char::is_alphanumeric)
            && !text[at + name.len()..].starts_with(char::is_alphanumeric)
        {
            return Some(at);
        }
        from = at + 1;
        if from > last {
            break;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_name_stands_alone() {
        for (text, name, shown) in [
            ("web1 is down", "web1", "* is down"),
            ("/var/log/web1-2.log", "web1", "/var/log/*-2.log"),
            ("web1.example.com, web1", "web1", "*.example.com, *"),
            ("web12 and aweb1 and web1é", "web1", "web12 and aweb1 and web1é"),
            ("a cat sat at a bar", "a", "* cat sat at * bar"),
            ("xa-a-a", "a-a", "xa-*"),
            ("a-ab-a-a", "a-a", "a-ab-*"),
            ("webX1 web.1", "web.1", "webX1 *"),
            ("[.*] .* a.*", ".*", "[*] * a.*"),
            ("--", "-", "**"),
            ("anything", "", "anything"),
            ("", "web1", ""),
            ("web1", "web1", "*"),
        ] {
            assert_eq!(replaced(text, name, "*"), shown, "{name} in {text}");
        }
    }

    proptest! {
        #[test]
        fn only_the_name_goes(name in "[A-Za-z0-9._-]{1,8}", text in "[ab1._é -]{0,60}") {
            let parts: Vec<_> = parts(&text, &name).collect();
            prop_assert_eq!(parts.join(&name), text);
        }

        #[test]
        fn a_name_between_other_words_is_found(name in "[A-Za-z0-9][A-Za-z0-9._-]{0,20}", around in proptest::collection::vec("[ :/({…]{1,3}", 1..8)) {
            let text = around.join(&name);
            prop_assert_eq!(parts(&text, &name).collect::<Vec<_>>(), around);
        }
    }
}
