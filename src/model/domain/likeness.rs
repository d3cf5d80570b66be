//! What is said of a name that nothing has: which names there are, and which of them was likely meant.

/// Names that are listed in one text.
const LISTED: usize = 10;

/// Characters of a name that a text shows.
const SHOWN: usize = 100;

/// What is said of an unknown name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown<'a> {
    /// Such as `unknown task type "wroker" (configured: backup, worker); did you mean worker?`
    pub text: String,
    /// The known name that was likely meant.
    pub likely: Option<&'a str>,
}

/// What to say of an unknown name. `what` is the kind of thing, `those` what the known ones are said to be.
pub fn unknown<'a>(
    what: &str,
    name: &str,
    those: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Unknown<'a> {
    let known: Vec<&str> = known.into_iter().collect();
    let likely = nearest(name, known.iter().copied());
    let text =
        format!("unknown {what} {} ({those}: {}){}", quoted(name), listed(&known), did_you_mean(likely));
    Unknown { text, likely }
}

/// The end of a text that names what was likely meant; empty where nothing was.
pub fn did_you_mean(likely: Option<&str>) -> String {
    likely.map_or_else(String::new, |likely| format!("; did you mean {likely}?"))
}

/// A name in quotes, as far as it can be shown.
pub fn quoted(name: &str) -> String {
    match name.char_indices().nth(SHOWN) {
        Some((cut, _)) => format!("{:?}…", name.get(..cut).unwrap_or_default()),
        None => format!("{name:?}"),
    }
}

/// The names, or the first of them.
pub fn listed(names: &[&str]) -> String {
    listed_of(names, names.len())
}

/// The same of names of which not all are here: there are `count`.
pub fn listed_of(names: &[&str], count: usize) -> String {
    let shown = &names[..names.len().min(LISTED)];
    match count.saturating_sub(shown.len()) {
        _ if shown.is_empty() => "none".to_owned(),
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The known name that a misspelt one is likely to mean. Two letters may differ, but not more than half of a
/// short name; capitals count as small ones.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let near = known.into_iter().map(|known| (distance(&name, &known.to_lowercase()), known));
    near.filter(|(letters, known)| *letters <= 2.min(known.len() / 2))
        .min_by_key(|(letters, _)| *letters)
        .map(|(_, known)| known)
}

/// How many letters two words differ by (Levenshtein); [`usize::MAX`] where they differ much or are long.
fn distance(a: &str, b: &str) -> usize {
    if a.len().abs_diff(b.len()) > 2 || b.len() > 200 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
        for (j, y) in b.bytes().enumerate() {
            let (left, above) = (row[j], row[j + 1]);
            row[j + 1] = (diagonal + usize::from(x != y)).min(left + 1).min(above + 1);
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_letters_that_differ() {
        for (a, b, letters) in [
            ("port", "port", 0),
            ("port", "prot", 2),
            ("attempts", "attempt", 1),
            ("host", "port", 2),
            ("uri", "url", 1),
        ] {
            assert_eq!(distance(a, b), letters, "{a} {b}");
        }
        assert_eq!(distance("port", "persistent"), usize::MAX);
    }

    #[test]
    fn the_nearest_name_is_meant_if_it_is_near() {
        for (name, known, meant) in [
            ("wroker", &["backup", "worker"][..], Some("worker")),
            ("Backup", &["backup", "worker"], Some("backup")),
            ("console3", &["console1", "console33"], Some("console1")),
            ("uri", &["url"], Some("url")),
            ("a", &["b"], None),
            ("ab", &["cd"], None),
            ("xyz", &["backup", "worker"], None),
            ("worker", &[], None),
        ] {
            assert_eq!(nearest(name, known.iter().copied()), meant, "{name}");
        }
    }

    #[test]
    fn a_text_shows_what_was_given_and_what_there_is() {
        assert_eq!(
            unknown("task type", "wroker", "configured", ["backup", "worker"]),
            Unknown {
                text: r#"unknown task type "wroker" (configured: backup, worker); did you mean worker?"#
                    .to_owned(),
                likely: Some("worker"),
            }
        );
        assert_eq!(
            unknown("schedule", "x", "configured", []).text,
            r#"unknown schedule "x" (configured: none)"#
        );
        let many: Vec<String> = (0..12).map(|number| format!("endpoint-{number}")).collect();
        let text = unknown("endpoint", &"é".repeat(300), "known", many.iter().map(String::as_str)).text;
        assert!(
            text.contains("é\"… (known: endpoint-0,")
                && text.ends_with("endpoint-9 and 2 more)")
                && text.len() < 500,
            "{text}"
        );
    }
}
