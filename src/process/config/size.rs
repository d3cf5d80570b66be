//! Sizes as text: `256KiB`, `1MiB`, or a plain number of bytes.

/// What a size looks like, for error texts.
pub const FORM: &str = "a size such as `256KiB`, `1MiB` or a number of bytes";

/// Units with their bytes, longest name first since `B` ends all of them.
const UNITS: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads a size in bytes; nothing for anything but a whole number with or without a unit.
pub fn parse(text: &str) -> Option<u64> {
    let (number, unit) = UNITS
        .iter()
        .find_map(|(name, bytes)| text.strip_suffix(name).map(|number| (number, *bytes)))
        .unwrap_or((text, 1));
    let formed = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    formed.then(|| number.parse::<u64>().ok()).flatten()?.checked_mul(unit)
}

/// Writes a size in the largest binary unit that holds it exactly.
pub fn format(bytes: u64) -> String {
    let fitting = UNITS.iter().take(3).find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    fitting.map_or_else(|| format!("{bytes}B"), |(name, unit)| format!("{}{name}", bytes / unit))
}

/// Writes a size for people: the bytes, and how many that is of the unit that suits them.
pub fn spell(bytes: u64) -> String {
    let fitting = UNITS.iter().take(3).find(|(_, unit)| bytes >= *unit);
    let rounded = fitting
        .map_or_else(String::new, |(name, unit)| format!(" ({:.1} {name})", bytes as f64 / *unit as f64));
    format!("{bytes} bytes{rounded}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_binary_and_decimal_units() {
        for (text, bytes) in [
            ("1MiB", 1 << 20),
            ("256KiB", 256 << 10),
            ("2GiB", 2 << 30),
            ("17", 17),
            ("17B", 17),
            ("3kB", 3000),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Some(bytes), "{text}");
        }
        for text in ["", "MiB", "1 MiB", "1mib", "-1", "1.5MiB", "1TiB", "99999999999GiB", "1MiBMiB"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn spells_sizes_for_people() {
        for (bytes, text) in
            [(17, "17 bytes"), (1536, "1536 bytes (1.5 KiB)"), ((2 << 20) + 17, "2097169 bytes (2.0 MiB)")]
        {
            assert_eq!(spell(bytes), text);
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(bytes in any::<u64>()) {
            prop_assert_eq!(parse(&format(bytes)), Some(bytes));
        }
    }
}
