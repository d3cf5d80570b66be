//! The words of a source text that ship, and the paths among them.

/// A path that leads to the crate's root.
pub struct Edge {
    pub line: usize,
    pub to: String,
}

/// The words and signs of a source text that ship.
pub struct Source {
    pub tokens: Vec<Token>,
    /// Modules in files of their own that are there for tests only.
    pub test_modules: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub line: usize,
    pub text: String,
}

impl Source {
    pub fn read(text: &str) -> Self {
        let tokens = tokens(text);
        let mut shipped = Vec::new();
        let mut test_modules = Vec::new();
        let mut rest = tokens.as_slice();
        while let Some(token) = rest.first() {
            if is(rest, &["#", "[", "cfg", "("]) && is_for_tests(&rest[4..]) {
                let item = &rest[end_of(rest, "[", "]")..];
                let end = item_end(item);
                if let [_, name, semicolon] = &item[..end.min(3)]
                    && is(item, &["mod"])
                    && semicolon.text == ";"
                {
                    test_modules.push(name.text.clone());
                }
                rest = &item[end..];
            } else {
                shipped.push(token.clone());
                rest = &rest[1..];
            }
        }
        Self { tokens: shipped, test_modules }
    }

    /// The modules at the root that paths lead to; `depth` is how many `super` lead there from the file's
    /// top.
    pub fn edges(&self, depth: usize) -> Vec<Edge> {
        let mut edges = Vec::new();
        // One entry for each open brace: whether it belongs to a module.
        let mut braces = Vec::new();
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            let rest = &self.tokens[at..];
            let mut step = 1;
            let mut root = None;
            match token.text.as_str() {
                "{" => braces.push(at >= 2 && self.tokens[at - 2].text == "mod"),
                "}" => _ = braces.pop(),
                "crate" if is(&rest[1..], &["::"]) => root = Some(2),
                "super" => {
                    let supers = rest.chunks(2).take_while(|pair| is(pair, &["super", "::"])).count();
                    step = (2 * supers).max(1);
                    let inline = braces.iter().filter(|module| **module).count();
                    root = (supers >= depth + inline).then_some(2 * supers);
                }
                _ => {}
            }
            if let Some(start) = root {
                edges.extend(
                    first_segments(&rest[start..])
                        .into_iter()
                        .map(|first| Edge { line: first.line, to: first.text.clone() }),
                );
            }
            at += step;
        }
        edges
    }

    /// Lines of the log whose key `reason` has another value than a `ReasonCode`.
    pub fn uncoded_reasons(&self) -> impl Iterator<Item = usize> {
        const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];
        let is_log = |at: &usize| {
            LEVELS.contains(&self.tokens[*at].text.as_str()) && is(&self.tokens[at + 1..], &["!", "("])
        };
        let calls = (0..self.tokens.len()).filter(is_log).map(|at| {
            let call = &self.tokens[at + 2..];
            &call[..end_of(call, "(", ")")]
        });
        calls.flat_map(|call| {
            // The key follows a bracket or a comma; in its short form a sign is between.
            let is_key = |at: &usize| {
                let before = call[..*at].iter().rev().map(|token| token.text.as_str());
                let mut before = before.skip_while(|sign| ["%", "?"].contains(sign));
                call[*at].text == "reason" && matches!(before.next(), Some("(" | ","))
            };
            let is_coded = |at: &usize| {
                let value = &call[at + 1..];
                is(value, &["=", "%", "ReasonCode"]) || is(value, &["=", "%", "code"])
            };
            (1..call.len()).filter(is_key).filter(move |at| !is_coded(at)).map(|at| call[at].line)
        })
    }

    /// The lines that use a library or one of its family: `lapin::x`, `use lapin;`.
    pub fn uses(&self, library: &str) -> impl Iterator<Item = usize> {
        let named = move |text: &str| {
            text == library || text.strip_prefix(library).is_some_and(|rest| rest.starts_with('_'))
        };
        self.tokens.windows(2).filter_map(move |pair| {
            let path = named(&pair[0].text) && pair[1].text == "::";
            let used = pair[0].text == "use" && named(&pair[1].text);
            // `use lapin::x` is both, and would be counted twice.
            (path || used && !self.continues(&pair[1])).then_some(pair[if path { 0 } else { 1 }].line)
        })
    }

    fn continues(&self, token: &Token) -> bool {
        self.tokens
            .iter()
            .position(|other| std::ptr::eq(other, token))
            .is_some_and(|at| is(&self.tokens[at + 1..], &["::"]))
    }
}

/// Whether a condition holds in no build that ships: `test`, alone, together with others, or beside
/// `fuzzing`.
fn is_for_tests(condition: &[Token]) -> bool {
    [&["test", ")"][..], &["all", "(", "test"], &["any", "(", "test"]]
        .iter()
        .any(|words| is(condition, words))
}

/// The words after `crate::`: one, or those that begin the parts of a group.
fn first_segments(tokens: &[Token]) -> Vec<&Token> {
    if !is(tokens, &["{"]) {
        return tokens.first().into_iter().collect();
    }
    let group = &tokens[1..end_of(tokens, "{", "}") - 1];
    let mut nesting = 0;
    let mut begins = true;
    let mut firsts = Vec::new();
    for token in group {
        match token.text.as_str() {
            "{" => nesting += 1,
            "}" => nesting -= 1,
            "," if nesting == 0 => {
                begins = true;
                continue;
            }
            _ if begins => firsts.push(token),
            _ => {}
        }
        begins = false;
    }
    firsts
}

/// The place after the bracket that closes the first opening one.
fn end_of(tokens: &[Token], open: &str, close: &str) -> usize {
    let mut nesting = 0;
    for (at, token) in tokens.iter().enumerate() {
        if token.text == open {
            nesting += 1;
        } else if token.text == close {
            nesting -= 1;
            if nesting == 0 {
                return at + 1;
            }
        }
    }
    tokens.len()
}

/// The end of an item: a semicolon, or the brace that closes its body (a `use` with a group has both).
fn item_end(item: &[Token]) -> usize {
    let Some(first) = item.iter().position(|token| matches!(token.text.as_str(), ";" | "{")) else {
        return item.len();
    };
    if item[first].text == "{" && !item[..first].iter().any(|token| token.text == "use") {
        return first + end_of(&item[first..], "{", "}");
    }
    item.iter().position(|token| token.text == ";").map_or(item.len(), |at| at + 1)
}

pub fn is(tokens: &[Token], texts: &[&str]) -> bool {
    tokens.len() >= texts.len() && tokens.iter().zip(texts).all(|(token, text)| token.text == *text)
}

/// Words, `::` and single signs, without comments, strings and characters.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let starts = |at: usize, sign: &str| chars[at..].iter().copied().take(sign.len()).eq(sign.chars());
    let mut tokens: Vec<Token> = Vec::new();
    let mut line = 1;
    let mut at = 0;
    while at < chars.len() {
        let begin = at;
        let c = chars[at];
        if starts(at, "//") {
            at += chars[at..].iter().take_while(|c| **c != '\n').count();
        } else if starts(at, "/*") {
            let mut nesting = 0;
            while at < chars.len() {
                let (step, change) = if starts(at, "/*") {
                    (2, 1)
                } else if starts(at, "*/") {
                    (2, -1)
                } else {
                    (1, 0)
                };
                at += step;
                nesting += change;
                if nesting == 0 {
                    break;
                }
            }
        } else if c == '"' {
            // A raw string begins with a word that ends in `r`, and signs `#` that also end it.
            let hashes = tokens.iter().rev().take_while(|token| token.text == "#").count();
            let word = tokens
                .iter()
                .rev()
                .nth(hashes)
                .is_some_and(|token| matches!(token.text.as_str(), "r" | "br" | "cr"));
            let raw = word && chars[..at].iter().rev().nth(hashes).is_some_and(|c| *c == 'r');
            let end = format!("\"{}", "#".repeat(if raw { hashes } else { 0 }));
            at += 1;
            while at < chars.len() && !starts(at, &end) {
                at += if chars[at] == '\\' && !raw { 2 } else { 1 };
            }
            at += end.len();
        } else if c == '\'' {
            // A character has its closing quote where a lifetime has none.
            at += match (chars.get(at + 1), chars.get(at + 2)) {
                (Some('\\'), _) => 3 + chars[at + 3..].iter().take_while(|c| **c != '\'').count() + 1,
                (Some(_), Some('\'')) => 3,
                _ => 1,
            };
        } else if c.is_alphanumeric() || c == '_' {
            at += chars[at..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
            tokens.push(Token { line, text: chars[begin..at].iter().collect() });
        } else if starts(at, "::") {
            at += 2;
            tokens.push(Token { line, text: "::".into() });
        } else {
            at += 1;
            if !c.is_whitespace() {
                tokens.push(Token { line, text: c.into() });
            }
        }
        at = at.min(chars.len());
        line += chars[begin..at].iter().filter(|c| **c == '\n').count();
    }
    tokens
}
