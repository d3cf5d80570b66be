//! Expressions that say which endpoints are meant: `site=berlin and not (role=db or version~"^0\.")`.
//!
//! ```text
//! expression = conjunction { "or" conjunction }
//! conjunction = factor { ("and" | ",") factor }
//! factor = "not" factor | "(" expression ")" | "!" key | "@" group | key [ test ]
//! test = "=" value | "!=" value | "~" regex | "!~" regex
//!      | "in" "(" value { "," value } ")" | "notin" "(" value { "," value } ")"
//! key, value, regex = word | '"' characters, with \" for a quote and \\ for a backslash '"'
//! ```
//!
//! A key alone asks whether the label is there. Values are globs: `*` stands for any characters, `?` for one.
//! A regular expression matches anywhere in the value. `!=`, `!~` and `notin` also hold for endpoints without
//! the label, as in Kubernetes. `@web` stands for the selector that is stored as the group `web`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::GroupName;
use super::labels::check_key;

/// Bytes that an expression may have as somebody writes it. The one spelling that is stored may be longer:
/// each comma becomes an `and`.
const LENGTH: usize = 4096;
/// How deep parentheses and `not` may be nested: the parser and the evaluation go down with them.
const DEPTH: usize = 32;
/// The same for a selector that was stored: the one spelling has parentheses that the author may leave out,
/// and selectors stand in it in the place of groups.
const STORED_DEPTH: usize = 256;
/// Bytes that a compiled regular expression may have. Those of this crate take time in proportion to the
/// text.
const REGEX_SIZE: usize = 256 << 10;
/// Regular expressions that an expression may have: each is compiled before it is admitted, in a millisecond
/// where it is large.
const REGEXES: usize = 16;
/// Regular expressions that all selectors of one submission or document may have.
pub const MOST_REGEXES: usize = 64;

/// Why a text is not a selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at character {at}: {message}")]
pub struct InvalidSelector {
    /// Where, in characters from 1.
    pub at: usize,
    /// The mistake, and the text that was expected there.
    pub message: String,
}

/// An expression over the facts of an endpoint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector(Expression);

#[derive(Debug, Clone)]
enum Expression {
    All(Vec<Expression>),
    Any(Vec<Expression>),
    Not(Box<Expression>),
    Term { key: String, test: Test },
    Group(GroupName),
}

/// The selectors that are stored, by the names of their groups.
pub type Groups = BTreeMap<GroupName, Selector>;

/// The selector of a group.
///
/// # Errors
/// The name, where it is not among the groups.
pub(super) fn group<'a>(groups: &'a Groups, name: &GroupName) -> Result<&'a Selector, GroupName> {
    groups.get(name).ok_or_else(|| name.clone())
}

#[derive(Debug, Clone)]
enum Test {
    Present,
    OneOf(Vec<String>),
    Matches(Pattern),
}

/// A regular expression. It is compiled when it is first matched: most selectors that are read from the ledger
/// are only shown, and a compiled expression has up to [`REGEX_SIZE`] bytes.
#[derive(Debug)]
struct Pattern {
    text: String,
    program: OnceLock<Option<Regex>>,
}

impl Pattern {
    fn new(text: String) -> Self {
        Self { text, program: OnceLock::new() }
    }

    fn compiled(&self) -> Result<Regex, regex::Error> {
        RegexBuilder::new(&self.text).size_limit(REGEX_SIZE).build()
    }

    /// None if it does not compile, which was checked when it was admitted.
    fn matches(&self, value: &str) -> Option<bool> {
        self.program.get_or_init(|| self.compiled().ok()).as_ref().map(|regex| regex.is_match(value))
    }
}

/// Without the program: a choice among endpoints works on copies, and these are gone after it.
impl Clone for Pattern {
    fn clone(&self) -> Self {
        Self::new(self.text.clone())
    }
}

impl Selector {
    /// One that holds where all of these do.
    ///
    /// # Errors
    /// When it is longer than a selector may be.
    pub fn all(mut selectors: Vec<Self>) -> Result<Self, InvalidSelector> {
        if selectors.len() == 1 {
            return Ok(selectors.remove(0));
        }
        // By its spelling: a part that is a list itself becomes one with parentheses.
        Self(Expression::All(selectors.into_iter().map(|selector| selector.0).collect())).to_string().parse()
    }

    /// A selector that was stored. It was checked when it was admitted, so that it can always be read: the limits
    /// of length, depth and number of regular expressions do not apply again. Values that look like a mistake are
    /// taken as they are, since earlier versions have stored such selectors.
    ///
    /// # Errors
    /// When it is none.
    pub fn stored(text: &str) -> Result<Self, InvalidSelector> {
        Parser { text, at: 0, depth: 0, regexes: 0, is_stored: true }.whole()
    }

    /// How many regular expressions it has.
    pub fn regexes(&self) -> usize {
        self.0.regexes()
    }

    /// The names of facts that it asks for.
    pub fn keys(&self) -> BTreeSet<&str> {
        let mut keys = BTreeSet::new();
        self.0.find_keys(&mut keys);
        keys
    }

    /// The groups that it names.
    pub fn groups(&self) -> Vec<&GroupName> {
        let mut groups = Vec::new();
        self.0.find_groups(&mut groups);
        groups
    }

    /// The same with the selectors of groups in the place of their names.
    ///
    /// # Errors
    /// The first name that is not among them.
    pub fn with_groups(&self, groups: &Groups) -> Result<Self, GroupName> {
        self.0.with_groups(groups).map(Self)
    }

    /// Whether an endpoint with these facts is meant. A group that was not replaced by its selector has no
    /// endpoints.
    pub fn matches<'a>(&self, fact: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.holds(&fact)
    }
}

/// Two that are spelt alike are the same.
impl PartialEq for Selector {
    fn eq(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}

impl Eq for Selector {}

/// As the ledger has it: see [`Selector::stored`].
impl TryFrom<String> for Selector {
    type Error = InvalidSelector;

    fn try_from(text: String) -> Result<Self, InvalidSelector> {
        Self::stored(&text)
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}

impl Expression {
    fn find_groups<'a>(&'a self, found: &mut Vec<&'a GroupName>) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.find_groups(found)),
            Self::Not(part) => part.find_groups(found),
            Self::Term { .. } => {}
            Self::Group(name) => found.push(name),
        }
    }

    fn find_keys<'a>(&'a self, found: &mut BTreeSet<&'a str>) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.find_keys(found)),
            Self::Not(part) => part.find_keys(found),
            Self::Term { key, .. } => _ = found.insert(key),
            Self::Group(_) => {}
        }
    }

    fn regexes(&self) -> usize {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().map(Self::regexes).sum(),
            Self::Not(part) => part.regexes(),
            Self::Term { test, .. } => usize::from(matches!(test, Test::Matches(_))),
            Self::Group(_) => 0,
        }
    }

    /// Groups name no groups, so this goes no deeper than two selectors do.
    fn with_groups(&self, groups: &Groups) -> Result<Self, GroupName> {
        let each =
            |parts: &[Self]| parts.iter().map(|part| part.with_groups(groups)).collect::<Result<_, _>>();
        Ok(match self {
            Self::All(parts) => Self::All(each(parts)?),
            Self::Any(parts) => Self::Any(each(parts)?),
            Self::Not(part) => Self::Not(Box::new(part.with_groups(groups)?)),
            Self::Term { .. } => self.clone(),
            Self::Group(name) => group(groups, name)?.0.clone(),
        })
    }

    fn holds<'a>(&self, fact: &impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(fact)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(fact)),
            Self::Not(part) => !part.holds(fact),
            Self::Group(_) => false,
            Self::Term { key, test } => fact(key).is_some_and(|value| match test {
                Test::Present => true,
                Test::OneOf(globs) => globs.iter().any(|glob| glob_matches(glob, value)),
                Test::Matches(pattern) => pattern.matches(value) == Some(true),
            }),
        }
    }
}

/// Whether a whole text is like a glob. Takes time in proportion to the product of both lengths at most, and
/// no memory: it looks at each of 50,000 endpoints.
fn glob_matches(glob: &str, text: &str) -> bool {
    if !glob.contains(['*', '?']) {
        return glob == text;
    }
    let (mut glob, mut text) = (glob.chars(), text.chars());
    // What comes after the last star, and what it leaves of the text.
    let mut star = None;
    loop {
        let rest = text.clone();
        match (glob.next(), text.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                text = rest;
                star = Some((glob.clone(), text.clone()));
            }
            (Some('?'), Some(_)) => {}
            (Some(wanted), Some(found)) if wanted == found => {}
            // The last star takes one character more.
            _ => {
                let Some((after, left)) = &mut star else { return false };
                if left.next().is_none() {
                    return false;
                }
                (glob, text) = (after.clone(), left.clone());
            }
        }
    }
}

impl FromStr for Selector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        Parser { text, at: 0, depth: 0, regexes: 0, is_stored: false }.whole()
    }
}

/// Goes through the text once, a function for each rule of the grammar.
struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    /// Regular expressions so far.
    regexes: usize,
    /// Whether it comes from the ledger, and not from somebody who writes it now.
    is_stored: bool,
}

impl<'a> Parser<'a> {
    fn whole(mut self) -> Result<Selector, InvalidSelector> {
        if self.text.len() > LENGTH && !self.is_stored {
            let message = format!("a selector has at most {LENGTH} bytes, this one has {}", self.text.len());
            return Err(InvalidSelector { at: 1, message });
        }
        let expression = self.expression()?;
        match self.peek() {
            None => Ok(Selector(expression)),
            Some(_) => Err(self.expected("`and`, `or` or the end")),
        }
    }

    fn expression(&mut self) -> Result<Expression, InvalidSelector> {
        let mut parts = vec![self.conjunction()?];
        while self.keyword("or") {
            parts.push(self.conjunction()?);
        }
        Ok(joined(parts, Expression::Any))
    }

    fn conjunction(&mut self) -> Result<Expression, InvalidSelector> {
        let mut parts = vec![self.factor()?];
        while self.symbol(",") || self.keyword("and") {
            parts.push(self.factor()?);
        }
        Ok(joined(parts, Expression::All))
    }

    fn factor(&mut self) -> Result<Expression, InvalidSelector> {
        self.depth += 1;
        let deepest = if self.is_stored { STORED_DEPTH } else { DEPTH };
        if self.depth > deepest {
            return Err(self.wrong(format!("more than {deepest} levels of parentheses and `not`")));
        }
        let factor = if self.symbol("(") {
            let inner = self.expression()?;
            if !self.symbol(")") {
                return Err(self.expected("`)`"));
            }
            inner
        } else if self.keyword("not") {
            Expression::Not(Box::new(self.factor()?))
        } else if self.symbol("!") {
            let key = self.key()?;
            negated(Expression::Term { key, test: Test::Present })
        } else if self.symbol("@") {
            Expression::Group(self.group()?)
        } else {
            self.term()?
        };
        self.depth -= 1;
        Ok(factor)
    }

    fn term(&mut self) -> Result<Expression, InvalidSelector> {
        let key = self.key()?;
        let (test, holds) = if self.symbol("!=") {
            (Test::OneOf(vec![self.value_of(&key, "!=")?]), false)
        } else if self.symbol("!~") {
            (self.regex(&key, "!~")?, false)
        } else if self.symbol("=") {
            (Test::OneOf(vec![self.value_of(&key, "=")?]), true)
        } else if self.symbol("~") {
            (self.regex(&key, "~")?, true)
        } else if self.keyword("in") {
            (self.list()?, true)
        } else if self.keyword("notin") {
            (self.list()?, false)
        } else {
            (Test::Present, true)
        };
        let term = Expression::Term { key, test };
        Ok(if holds { term } else { negated(term) })
    }

    fn list(&mut self) -> Result<Test, InvalidSelector> {
        if !self.symbol("(") {
            return Err(self.expected("`(` and the values, such as `in (a, b)`"));
        }
        let mut values = vec![self.value_of("", "")?];
        while self.symbol(",") {
            values.push(self.value_of("", "")?);
        }
        if !self.symbol(")") {
            return Err(self.expected("`,` or `)`"));
        }
        Ok(Test::OneOf(values))
    }

    fn group(&mut self) -> Result<GroupName, InvalidSelector> {
        let start = self.at;
        let name =
            self.word(|byte| byte.is_ascii_whitespace() || b"(),\"".contains(&byte), "the name of a group")?;
        let invalid = |error| InvalidSelector {
            at: self.characters(start),
            message: format!("{} is not a group name: {error}", quoted(&name)),
        };
        name.parse().map_err(invalid)
    }

    fn key(&mut self) -> Result<String, InvalidSelector> {
        self.skip_space();
        let start = self.at;
        let key = self
            .word(|byte| byte.is_ascii_whitespace() || b"(),\"!=~".contains(&byte), "the name of a label")?;
        check_key(&key)
            .map_err(|error| InvalidSelector { at: self.characters(start), message: error.to_string() })?;
        Ok(key)
    }

    /// The value of a test of a label; of a list both are empty. The tests of other languages are refused:
    /// taken as a part of the value, they would fit no endpoint, and an exclusion would exclude nobody.
    fn value_of(&mut self, key: &str, test: &str) -> Result<String, InvalidSelector> {
        let Some(first @ ('=' | '~' | '\'')) = self.peek().filter(|_| !self.is_stored) else {
            return self.value();
        };
        let rest = self.text[self.at..].trim_start_matches(['=', '~']).trim_start();
        let value = match rest.strip_prefix('\'') {
            Some(rest) => quoted(rest.split('\'').next().unwrap_or_default()),
            None => rest
                .split(|c: char| c.is_whitespace() || "(),".contains(c))
                .next()
                .unwrap_or_default()
                .to_owned(),
        };
        let test = match (first, test) {
            ('~', "=") => "~",
            ('~', "!=") => "!~",
            _ => test,
        };
        let right = format!("{key}{test}{value}");
        Err(self.wrong(format!(
            "a value does not begin with `{first}`: write {right}; a value that does begin so stands in double quotes"
        )))
    }

    fn value(&mut self) -> Result<String, InvalidSelector> {
        self.word(
            |byte| byte.is_ascii_whitespace() || b"(),\"".contains(&byte),
            "a value (in double quotes when it is empty or has spaces, commas or parentheses)",
        )
    }

    fn regex(&mut self, key: &str, test: &str) -> Result<Test, InvalidSelector> {
        self.skip_space();
        let start = self.at;
        let pattern = Pattern::new(self.value_of(key, test)?);
        self.regexes += 1;
        if self.is_stored {
            return Ok(Test::Matches(pattern));
        }
        if self.regexes > REGEXES {
            return Err(self.wrong(format!("more than {REGEXES} regular expressions")));
        }
        pattern.compiled().map_err(|error| InvalidSelector {
            at: self.characters(start),
            message: format!(
                "{} is not a usable regular expression: {}",
                quoted(&pattern.text),
                one_line(&error.to_string())
            ),
        })?;
        Ok(Test::Matches(pattern))
    }

    /// A word up to a byte that ends it, or a text in quotes.
    fn word(&mut self, ends: impl Fn(u8) -> bool, what: &str) -> Result<String, InvalidSelector> {
        self.skip_space();
        if self.text[self.at..].starts_with('"') {
            return self.in_quotes();
        }
        let rest = &self.text[self.at..];
        let length = rest.bytes().position(ends).unwrap_or(rest.len());
        if length == 0 {
            return Err(self.expected(what));
        }
        self.at += length;
        Ok(rest[..length].to_owned())
    }

    fn in_quotes(&mut self) -> Result<String, InvalidSelector> {
        let (start, mut text) = (self.at, String::new());
        let mut rest = self.text[self.at + 1..].char_indices();
        while let Some((index, character)) = rest.next() {
            match character {
                '"' => {
                    self.at += index + 2;
                    return Ok(text);
                }
                '\\' => match rest.next() {
                    Some((_, next @ ('"' | '\\'))) => text.push(next),
                    // A regular expression is full of backslashes: only the two escapes above are ours.
                    Some((_, next)) => text.extend(['\\', next]),
                    None => break,
                },
                character => text.push(character),
            }
        }
        Err(InvalidSelector { at: self.characters(start), message: "the quote is not closed".to_owned() })
    }

    /// Takes a word of the language, which ends where a key would.
    fn keyword(&mut self, keyword: &str) -> bool {
        self.skip_space();
        let rest = &self.text.as_bytes()[self.at..];
        let Some((word, rest)) = rest.split_at_checked(keyword.len()) else { return false };
        let ends = rest.first().is_none_or(|byte| byte.is_ascii_whitespace() || b"(),\"".contains(byte));
        let found = ends && word.eq_ignore_ascii_case(keyword.as_bytes());
        if found {
            self.at += keyword.len();
        }
        found
    }

    fn symbol(&mut self, symbol: &str) -> bool {
        self.skip_space();
        let found = self.text[self.at..].starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.text[self.at..].chars().next()
    }

    fn skip_space(&mut self) {
        let rest = self.text.as_bytes()[self.at..].iter();
        self.at += rest.take_while(|byte| byte.is_ascii_whitespace()).count();
    }

    fn expected(&mut self, what: &str) -> InvalidSelector {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(_) => {
                let rest = &self.text[self.at..];
                quoted(rest.split_whitespace().next().unwrap_or(rest))
            }
        };
        self.wrong(format!("expected {what}, found {found}"))
    }

    fn wrong(&self, message: String) -> InvalidSelector {
        InvalidSelector { at: self.characters(self.at), message }
    }

    fn characters(&self, at: usize) -> usize {
        self.text[..at].chars().count() + 1
    }
}

fn joined(mut parts: Vec<Expression>, join: fn(Vec<Expression>) -> Expression) -> Expression {
    match parts.len() {
        1 => parts.remove(0),
        _ => join(parts),
    }
}

fn negated(expression: Expression) -> Expression {
    Expression::Not(Box::new(expression))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// One spelling for all texts that say the same: with it a selector is stored and compared.
impl fmt::Display for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(formatter, false)
    }
}

impl Expression {
    /// `inside`: a list of parts stands in parentheses where it is a part of something else.
    fn write(&self, out: &mut fmt::Formatter<'_>, inside: bool) -> fmt::Result {
        match self {
            Self::All(parts) => write_list(out, parts, " and ", inside),
            Self::Any(parts) => write_list(out, parts, " or ", inside),
            Self::Not(part) => match &**part {
                Self::Term { key, test } => test.write(out, key, true),
                part => {
                    out.write_str("not ")?;
                    part.write(out, true)
                }
            },
            Self::Term { key, test } => test.write(out, key, false),
            Self::Group(name) => write!(out, "@{name}"),
        }
    }
}

fn write_list(
    out: &mut fmt::Formatter<'_>,
    parts: &[Expression],
    between: &str,
    inside: bool,
) -> fmt::Result {
    out.write_str(if inside { "(" } else { "" })?;
    for (index, part) in parts.iter().enumerate() {
        out.write_str(if index == 0 { "" } else { between })?;
        part.write(out, true)?;
    }
    out.write_str(if inside { ")" } else { "" })
}

impl Test {
    fn write(&self, out: &mut fmt::Formatter<'_>, key: &str, negated: bool) -> fmt::Result {
        let key = if is_keyword(key) { quoted(key) } else { key.to_owned() };
        let not = if negated { "!" } else { "" };
        match self {
            Self::Present => write!(out, "{not}{key}"),
            Self::OneOf(globs) if globs.len() == 1 => write!(out, "{key}{not}={}", spelt(&globs[0])),
            Self::OneOf(globs) => {
                let globs: Vec<String> = globs.iter().map(|glob| spelt(glob)).collect();
                write!(out, "{key} {}in ({})", if negated { "not" } else { "" }, globs.join(", "))
            }
            Self::Matches(pattern) => write!(out, "{key}{not}~{}", quoted(&pattern.text)),
        }
    }
}

fn is_keyword(key: &str) -> bool {
    ["and", "or", "not", "in", "notin"].iter().any(|keyword| key.eq_ignore_ascii_case(keyword))
}

/// A value as it may stand in an expression.
fn spelt(value: &str) -> String {
    let plain = |byte: u8| !byte.is_ascii_whitespace() && !b"(),\"\\".contains(&byte);
    let begins_plain = !value.starts_with(['=', '~', '\'']);
    if !value.is_empty() && value.bytes().all(plain) && begins_plain {
        value.to_owned()
    } else {
        quoted(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FACTS: [(&str, &str); 5] =
        [("name", "web1"), ("site", "berlin"), ("role", "web"), ("version", "0.1.0"), ("in", "x y")];

    fn holds(text: &str) -> bool {
        let selector: Selector = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        selector.matches(|key| FACTS.iter().find(|(name, _)| *name == key).map(|(_, value)| *value))
    }

    #[test]
    fn tests_of_other_languages_are_refused_with_the_right_form() {
        for (text, right) in [
            ("site==paris", "write site=paris;"),
            ("site = = paris", "write site=paris;"),
            ("site=~par", "write site~par;"),
            ("site!=~par", "write site!~par;"),
            ("site~=par", "write site~par;"),
            ("site='paris'", "write site=\"paris\";"),
            ("site=='new york' and role=web", "write site=\"new york\";"),
            ("site in ('a', 'b')", "write \"a\";"),
            ("site in (a, =b)", "write b;"),
            ("not site==paris", "write site=paris;"),
        ] {
            let error = text.parse::<Selector>().expect_err(text);
            assert!(error.message.contains(right), "{text}: {error}");
        }
        for text in ["site==paris", "site=~par", "site='paris'"] {
            let stored = Selector::stored(text).expect("earlier versions have stored it").to_string();
            assert!(stored.parse::<Selector>().is_ok(), "{stored}");
        }
        for text in [r#"site="=paris""#, r#"site="~par""#, r#"site~"=par""#, r#"site="'paris'""#] {
            let selector: Selector = text.parse().expect(text);
            assert_eq!(selector.to_string().parse(), Ok(selector), "{text}");
        }
    }

    #[test]
    fn each_test_holds_for_whom_it_should() {
        let yes = [
            "site=berlin",
            "site = ber*",
            "site=*",
            "name=web?",
            "site!=paris",
            "rack!=1",
            "site in (paris, ber*)",
            "site notin (paris)",
            "rack notin (1)",
            "site",
            "!rack",
            "version~^0\\.",
            r#"version~"^0\.1""#,
            "version!~^1",
            "rack!~x",
            "site=berlin,role=web",
            "site=paris or role=web",
            "not site=paris",
            "NOT (site=paris OR site=rome) AND role=web",
            "site=paris and role=db or name",
            r#""in"="x y""#,
            r#"in="x y""#,
            "!rack and site",
            "role in(web)",
            "(((site)))",
            "not not site",
        ];
        for text in yes {
            assert!(holds(text), "{text}");
        }
        let no = [
            "site=Berlin",
            "site=ber",
            "name=web",
            "rack",
            "!site",
            "rack=*",
            "rack~.*",
            "site=paris, role=web",
            "not site",
            "site=berlin and not (role=web or role=db)",
            r#"site="""#,
            "version~^1",
        ];
        for text in no {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let told = |text: &str| text.parse::<Selector>().expect_err(text).to_string();
        for (text, begin) in [
            ("", "at character 1: expected the name of a label, found the end"),
            ("site=", "at character 6: expected a value"),
            ("site=a b", "at character 8: expected `and`, `or` or the end, found \"b\""),
            ("site in a", "at character 9: expected `(`"),
            ("site in (a", "at character 11: expected `,` or `)`, found the end"),
            ("(site", "at character 6: expected `)`, found the end"),
            ("site=\"a", "at character 6: the quote is not closed"),
            ("a~\"(\"", "at character 3: \"(\" is not a usable regular expression"),
            ("-a=1", "at character 1: `-a` is not a label name"),
            ("a=1 and", "at character 8: expected the name of a label, found the end"),
            ("ä=1", "at character 1: `ä` is not a label name"),
            ("a and @", "at character 8: expected the name of a group, found the end"),
            ("@-a", "at character 2: \"-a\" is not a group name: the name of a group is"),
            ("!@a", "at character 2: `@a` is not a label name"),
        ] {
            assert!(told(text).starts_with(begin), "{text}: {}", told(text));
        }
        assert!(told(&"(".repeat(33)).contains("more than 32 levels"));
        assert!(told(&"a,".repeat(3000)).contains("at most 4096 bytes"));
        assert!(told("a~x{1000}{1000}").contains("regular expression"));
    }

    #[test]
    fn what_an_author_may_write_can_be_read_from_the_ledger() {
        let nested = (0..15).fold("a".to_owned(), |inner, _| format!("b or c and ({inner})"));
        for text in [vec!["name"; 819].join(","), vec!["!a"; 1365].join(","), nested.clone()] {
            let spelling = text.parse::<Selector>().expect("within the limits").to_string();
            assert_eq!(Selector::stored(&spelling).expect("can be read").to_string(), spelling);
        }
        let name: GroupName = "g".parse().expect("valid");
        let groups = Groups::from([(name, nested.parse().expect("valid"))]);
        let asked = nested.replace("(a)", "(@g or @g)").parse::<Selector>().expect("valid");
        let spelling = asked.with_groups(&groups).expect("it is there").to_string();
        assert_eq!(Selector::stored(&spelling).expect("can be read").to_string(), spelling);
    }

    #[test]
    fn regular_expressions_are_bounded_together() {
        let text = |count: usize| vec!["a~b"; count].join(" or ");
        assert_eq!(text(REGEXES).parse::<Selector>().expect("so many are allowed").regexes(), REGEXES);
        let error = text(REGEXES + 1).parse::<Selector>().expect_err("one too many");
        assert!(error.message.contains("more than 16 regular expressions"), "{error}");
    }

    #[test]
    fn a_selector_has_one_spelling() {
        for (text, spelling) in [
            ("a = b , c", "a=b and c"),
            ("(a or b) , !c", "(a or b) and !c"),
            ("a and b or c", "(a and b) or c"),
            ("not a", "!a"),
            ("not(a , b)", "not (a and b)"),
            ("a in (x)", "a=x"),
            ("a notin ( x ,y z)", ""),
            ("a notin ( x ,\"y z\")", "a notin (x, \"y z\")"),
            ("a~b", "a~\"b\""),
            ("not @ web.1,b", "not @web.1 and b"),
        ] {
            match text.parse::<Selector>() {
                Ok(selector) => assert_eq!(selector.to_string(), spelling),
                Err(_) => assert_eq!(spelling, "", "{text}"),
            }
        }
    }

    #[test]
    fn a_group_stands_for_its_selector() {
        let selector = |text: &str| text.parse::<Selector>().expect("valid");
        let name = |text: &str| text.parse::<GroupName>().expect("valid");
        let groups: Groups =
            [(name("web"), selector("role=web or role=proxy")), (name("old"), selector("!site"))].into();
        let asked = selector("@web and not @old, site=b*");
        assert_eq!(asked.groups(), [&name("web"), &name("old")]);
        let replaced = asked.with_groups(&groups).expect("both are there");
        assert_eq!(replaced.to_string(), "(role=web or role=proxy) and not !site and site=b*");
        assert_eq!(asked.with_groups(&Groups::new()).expect_err("none is there"), name("web"));
        assert!(!asked.matches(|_| Some("web")));
    }

    #[test]
    fn all_of_several() {
        let selector = |text: &str| text.parse::<Selector>().expect("valid");
        assert_eq!(
            Selector::all(vec![selector("a or b"), selector("c")]).expect("short").to_string(),
            "(a or b) and c"
        );
        assert_eq!(Selector::all(vec![selector("a or b")]).expect("short").to_string(), "a or b");
        assert!(
            Selector::all(vec![selector(&format!("a={}", "b".repeat(3000))); 2])
                .expect_err("too long")
                .message
                .contains("4096")
        );
    }

    #[test]
    fn globs() {
        for (glob, text) in [
            ("*", ""),
            ("a*b", "ab"),
            ("a*b*c", "axxbyyc"),
            ("?", "ä"),
            ("**a", "xa"),
            ("web*.ber", "web1.x.ber"),
        ] {
            assert!(glob_matches(glob, text), "{glob} {text}");
        }
        for (glob, text) in [("?", ""), ("a*b", "a"), ("a*b", "abc"), ("", "a"), ("a?", "a")] {
            assert!(!glob_matches(glob, text), "{glob} {text}");
        }
    }

    fn expressions() -> impl Strategy<Value = String> {
        let key = prop_oneof![Just("a"), Just("site"), Just("\"in\""), Just("x/y.z")];
        let value = prop_oneof![
            Just("b"),
            Just("\"\""),
            Just("\"x y\""),
            Just("we*"),
            Just("\"\\\\\\\"\""),
            Just("a=b!~")
        ];
        let term = (key, value, 0..9u8).prop_map(|(key, value, test)| match test {
            0 => format!("{key}={value}"),
            1 => format!("{key} != {value}"),
            2 => format!("{key} in ({value}, c)"),
            3 => format!("{key} notin ({value})"),
            4 => key.to_owned(),
            5 => format!("!{key}"),
            6 => format!("{key}~\"^a\\d\""),
            7 => "@web".to_owned(),
            _ => format!("{key}!~b"),
        });
        term.prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) or {b}")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} , ({b})")),
                inner.prop_map(|a| format!("not ({a})")),
            ]
        })
    }

    proptest! {
        #[test]
        fn its_spelling_says_the_same(text in expressions(), a in "[ab]?", site in "(b|web|x y)?") {
            let selector: Selector = text.parse().expect("valid");
            let again: Selector = selector.to_string().parse().expect("its spelling is valid");
            prop_assert_eq!(selector.to_string(), again.to_string());
            let fact = |key: &str| match key { "a" => Some(a.as_str()), "site" => Some(site.as_str()), _ => None };
            prop_assert_eq!(selector.matches(fact), again.matches(fact));
        }

        #[test]
        fn any_text_is_a_selector_or_refused(text in "[a-c\"\\\\!=~(),* \u{e4}]{0,40}") {
            if let Ok(selector) = text.parse::<Selector>() {
                prop_assert!(selector.to_string().parse::<Selector>().is_ok(), "{} of {}", selector, text);
            }
        }
    }
}
