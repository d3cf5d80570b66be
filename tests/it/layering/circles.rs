//! Files that import each other, directly or in a ring.
//!
//! An arrow leads from a file to the file in which a name that it uses is defined: a name that a module only
//! hands on from a child (`pub use`) leads to the child. Handing on is no arrow itself, or each module would
//! be in a circle with its children; a module that uses what its child defines is in one if the child uses
//! what the module defines.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::source::{Source, Token, is};

/// How often a name is followed from one module to the next: the compiler refuses names that are handed on in
/// a circle, and this must end.
const DEPTH: usize = 16;

/// Files that lead to each other.
#[derive(Debug)]
pub struct Circle {
    /// Their modules, such as `broker::amqp`.
    pub modules: Vec<String>,
    /// The arrows among them, with the names that are used.
    arrows: Vec<String>,
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  {}", self.modules.join(", "), self.arrows.join("\n  "))
    }
}

/// All circles of a crate, whose files are given with the modules that they are.
pub fn find(files: &[(Vec<String>, Source)]) -> Vec<Circle> {
    let modules = Modules(files.iter().map(|(path, source)| (path.clone(), Module::read(source))).collect());
    let arrows: BTreeMap<&[String], BTreeMap<&[String], BTreeSet<String>>> =
        modules.0.iter().map(|(path, module)| (path.as_slice(), modules.arrows(path, module))).collect();
    let reached: BTreeMap<&[String], BTreeSet<&[String]>> =
        arrows.keys().map(|path| (*path, reach(&arrows, path))).collect();
    let mut seen = BTreeSet::new();
    let mut circles = Vec::new();
    for path in arrows.keys() {
        if seen.contains(path) || !reached[path].contains(path) {
            continue;
        }
        let circle: Vec<&[String]> =
            reached[path].iter().copied().filter(|other| reached[other].contains(path)).collect();
        seen.extend(circle.iter().copied());
        let among =
            circle.iter().flat_map(|from| arrows[from].iter().map(move |(to, names)| (from, to, names)));
        let among = among.filter(|(_, to, _)| circle.contains(to)).map(|(from, to, names)| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            format!("{} -> {}: {}", from.join("::"), to.join("::"), names.join(", "))
        });
        circles.push(Circle {
            arrows: among.collect(),
            modules: circle.iter().map(|module| module.join("::")).collect(),
        });
    }
    circles
}

/// Where the arrows from a module lead in the end.
fn reach<'a>(
    arrows: &BTreeMap<&'a [String], BTreeMap<&'a [String], BTreeSet<String>>>,
    from: &[String],
) -> BTreeSet<&'a [String]> {
    let mut reached = BTreeSet::new();
    let mut ahead: Vec<&'a [String]> = arrows[from].keys().copied().collect();
    while let Some(next) = ahead.pop() {
        if reached.insert(next) {
            ahead.extend(arrows[next].keys());
        }
    }
    reached
}

/// What a file says of names.
#[derive(Debug, Default)]
struct Module {
    /// Names that it defines.
    defined: BTreeSet<String>,
    /// Names that it imports, with their paths.
    imported: BTreeMap<String, Vec<String>>,
    /// Modules of which it imports every name.
    globs: Vec<Vec<String>>,
    /// Paths that it uses, without those that it only hands on.
    used: Vec<Vec<String>>,
}

impl Module {
    fn read(source: &Source) -> Self {
        const DEFINES: [&str; 9] =
            ["struct", "enum", "trait", "fn", "const", "static", "type", "union", "macro_rules"];
        let tokens = &source.tokens;
        let mut module = Self::default();
        // One entry for each open brace: whether it belongs to a module.
        let mut braces = Vec::new();
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            let before = at.checked_sub(1).map_or("", |before| tokens[before].text.as_str());
            let next = tokens.get(at + 1).map_or("", |next| next.text.as_str());
            let inline = braces.iter().filter(|module| **module).count();
            at += 1;
            match token.text.as_str() {
                "{" => braces.push(at >= 3 && tokens[at - 3].text == "mod"),
                "}" => _ = braces.pop(),
                word if DEFINES.contains(&word) => {
                    let name = tokens[at..].iter().find(|token| token.text != "!" && token.text != "mut");
                    module.defined.extend(name.map(|name| name.text.clone()));
                }
                "use" if next != "<" && matches!(before, "" | ";" | "{" | "}" | ")" | "]" | "pub") => {
                    let mut leaves = Vec::new();
                    at = use_tree(tokens, at, &[], &mut leaves);
                    // `::name` is a library.
                    for (path, name) in leaves.into_iter().filter(|_| next != "::") {
                        module.import(from_the_file(path, inline), name, matches!(before, "pub" | ")"));
                    }
                }
                // Who may see an item is no arrow.
                "in" if at >= 3 && is(&tokens[at - 3..], &["pub", "("]) => {
                    at += tokens[at..].iter().take_while(|token| token.text != ")").count();
                }
                word if is_word(word) && next == "::" && before != "::" => {
                    let mut path = vec![word.to_owned()];
                    while is(&tokens[at..], &["::"])
                        && tokens.get(at + 1).is_some_and(|next| is_word(&next.text))
                    {
                        path.push(tokens[at + 1].text.clone());
                        at += 2;
                    }
                    module.used.push(from_the_file(path, inline));
                }
                _ => {}
            }
        }
        module
    }

    fn import(&mut self, path: Vec<String>, name: String, public: bool) {
        let hands_on = public && !matches!(path[0].as_str(), "crate" | "super");
        if !hands_on {
            self.used.push(path.clone());
        }
        match name.as_str() {
            "*" => self.globs.push(path),
            _ => _ = self.imported.insert(name, path),
        }
    }
}

/// The leaves of the tree that begins here, with the names that they get; answers where it ends.
fn use_tree(
    tokens: &[Token],
    mut at: usize,
    above: &[String],
    leaves: &mut Vec<(Vec<String>, String)>,
) -> usize {
    let mut path = above.to_vec();
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token.text.as_str() {
            "::" => {}
            "{" => {
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    at = use_tree(tokens, at, &path, leaves);
                    at += usize::from(is(&tokens[at..], &[","]));
                }
                return at + 1;
            }
            "*" => {
                leaves.push((path, "*".to_owned()));
                return at;
            }
            word => {
                path.extend((word != "self" || path.is_empty()).then(|| word.to_owned()));
                if is(&tokens[at..], &["::"]) {
                    continue;
                }
                let mut name = path.last().cloned().unwrap_or_default();
                if is(&tokens[at..], &["as"]) {
                    name.clone_from(&tokens[at + 1].text);
                    at += 2;
                }
                leaves.push((path, name));
                return at;
            }
        }
    }
    at
}

/// A path as it would stand at the top of the file and not in a module inside of it.
fn from_the_file(mut path: Vec<String>, inline: usize) -> Vec<String> {
    for _ in 0..inline {
        if path[0] == "super" && path.len() > 1 {
            path.remove(0);
        }
    }
    path
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The modules of a crate that are files, by their paths.
struct Modules(BTreeMap<Vec<String>, Module>);

impl Modules {
    fn arrows<'a>(&'a self, path: &[String], module: &Module) -> BTreeMap<&'a [String], BTreeSet<String>> {
        let mut arrows: BTreeMap<&[String], BTreeSet<String>> = BTreeMap::new();
        for used in &module.used {
            if let Some(to) = self
                .absolute(path, used, 0)
                .and_then(|(start, rest)| self.home(&start, &rest, 0))
                .filter(|to| *to != path)
            {
                arrows.entry(to).or_default().insert(used.join("::"));
            }
        }
        arrows
    }

    /// A path that stands in a module, from a module of the crate on; none for a path that leads elsewhere.
    fn absolute(
        &self,
        module: &[String],
        path: &[String],
        depth: usize,
    ) -> Option<(Vec<String>, Vec<String>)> {
        let (first, rest) = path.split_first()?;
        let child = || self.0.contains_key(&[module, std::slice::from_ref(first)].concat());
        match first.as_str() {
            "crate" => Some((Vec::new(), rest.to_vec())),
            "self" => Some((module.to_vec(), rest.to_vec())),
            "super" => {
                let supers = path.iter().take_while(|word| *word == "super").count();
                Some((module[..module.len().checked_sub(supers)?].to_vec(), path[supers..].to_vec()))
            }
            _ if child() => Some((module.to_vec(), path.to_vec())),
            _ => {
                let imported = self
                    .0
                    .get(module)?
                    .imported
                    .get(first)
                    .filter(|imported| imported[0] != *first && depth < DEPTH)?;
                let (start, before) = self.absolute(module, imported, depth + 1)?;
                Some((start, [&before, rest].concat()))
            }
        }
    }

    /// The file in which what a path names is defined.
    fn home<'a>(&'a self, start: &[String], path: &[String], depth: usize) -> Option<&'a [String]> {
        let mut start = start.to_vec();
        for (place, name) in path.iter().enumerate() {
            let child = [start.as_slice(), std::slice::from_ref(name)].concat();
            if self.0.contains_key(&child) {
                start = child;
                continue;
            }
            let (own, module) = self.0.get_key_value(&start)?;
            if module.defined.contains(name) || depth >= DEPTH {
                return Some(own);
            }
            let follow = |path: &[String], rest: &[String]| {
                let (start, before) = self.absolute(&start, path, depth + 1)?;
                self.home(&start, &[&before, rest].concat(), depth + 1)
            };
            if let Some(imported) = module.imported.get(name) {
                return follow(imported, &path[place + 1..]);
            }
            let defines = |home: &&[String]| self.0[*home].defined.contains(name);
            return module
                .globs
                .iter()
                .find_map(|glob| follow(glob, &path[place..]).filter(defines))
                .or(Some(own));
        }
        self.0.get_key_value(&start).map(|(own, _)| own.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let path =
            |module: &str| module.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let files: Vec<_> = files.iter().map(|(module, text)| (path(module), Source::read(text))).collect();
        find(&files).into_iter().map(|circle| circle.modules).collect()
    }

    #[test]
    fn files_that_use_each_other_are_a_circle() {
        let a = ("a", "use super::b::B; pub struct A;");
        assert_eq!(found(&[("", "mod a; mod b;"), a, ("b", "pub struct B(crate::a::A);")]), [["a", "b"]]);
        assert_eq!(found(&[("", "mod a; mod b;"), a, ("b", "pub struct B;")]), [[""; 0]; 0]);
        let ring = [
            a,
            ("b", "use crate::c; pub struct B(c::C);"),
            ("c", "use crate::{a::{self as x}}; pub struct C(x::A);"),
        ];
        assert_eq!(found(&[&[("", "mod a; mod b; mod c;")][..], &ring].concat()), [["a", "b", "c"]]);
    }

    #[test]
    fn a_name_that_is_handed_on_leads_to_where_it_is_defined() {
        let module = ("m", "mod a; mod b; pub use a::A; pub use self::b::*;");
        let (a, b) = (("m::a", "pub struct A;"), ("m::b", "use super::A; pub struct B(A);"));
        assert_eq!(found(&[("", "mod m;"), module, a, b]), [[""; 0]; 0]);
        let a = ("m::a", "pub struct A(super::B);");
        assert_eq!(found(&[("", "mod m;"), module, a, b]), [["m::a", "m::b"]]);
    }

    #[test]
    fn a_module_and_its_child_are_a_circle_when_each_uses_the_other() {
        let child = ("m::a", "use super::M; pub struct A(M);");
        assert_eq!(
            found(&[("", "mod m;"), ("m", "mod a; pub use a::A; pub struct M;"), child]),
            [[""; 0]; 0]
        );
        let parent = ("m", "mod a; use a::A; pub struct M(A);");
        assert_eq!(found(&[("", "mod m;"), parent, child]), [["m", "m::a"]]);
        let child = ("m::a", "pub(in crate::m) struct A; impl A { pub(in crate::m) fn f() {} }");
        assert_eq!(found(&[("", "mod m;"), parent, child]), [[""; 0]; 0]);
    }

    #[test]
    fn tests_and_modules_inside_of_a_file_are_seen_for_what_they_are() {
        let a = (
            "a",
            "pub struct A; #[cfg(test)] mod tests { use crate::b::B; } #[cfg(any(test, fuzzing))] fn f(b: crate::b::B) {}",
        );
        assert_eq!(found(&[("", "mod a; mod b;"), a, ("b", "pub struct B(crate::a::A);")]), [[""; 0]; 0]);
        let a = ("a", "pub struct A; mod inner { use super::super::b::B; use super::A; }");
        assert_eq!(found(&[("", "mod a; mod b;"), a, ("b", "pub struct B(crate::a::A);")]), [["a", "b"]]);
    }
}
