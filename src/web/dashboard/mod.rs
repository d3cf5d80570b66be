//! The files of the dashboard, built from `web/` into `dist/` by `cargo xtask dashboard` and compiled in.
//!
//! The built files are part of the repository, so that building tasker takes no Node. They are compressed
//! once, when first asked for.

use std::io::Write;
use std::sync::LazyLock;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";
const TEXT: &str = "text/plain; charset=utf-8";

macro_rules! file {
    ($name:literal, $media:expr) => {
        File::new($name, $media, include_bytes!(concat!("dist/assets/", $name)))
    };
}

/// The page as the build writes it.
const WRITTEN: &str = include_str!("dist/index.html");

/// How many names the path of a place has at most.
const DEEPEST: usize = 7;

/// The page for the places at each depth. It names its files relative to its own address, since a proxy may
/// have it below a path of its own.
static PAGES: LazyLock<[File; DEEPEST + 1]> = LazyLock::new(|| std::array::from_fn(page_at));

static ASSETS: LazyLock<[File; 4]> = LazyLock::new(|| {
    [
        file!("app.js", SCRIPT),
        file!("app.css", STYLE),
        file!("icon.svg", PICTURE),
        file!("licenses.txt", TEXT),
    ]
});

/// A file, as it is sent.
pub struct File {
    name: &'static str,
    media: &'static str,
    bytes: &'static [u8],
    compressed: Option<&'static [u8]>,
    hash: String,
}

impl File {
    fn new(name: &'static str, media: &'static str, bytes: &'static [u8]) -> Self {
        let mut hash: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        // As the build writes it into the page.
        hash.truncate(12);
        Self { name, media, bytes, compressed: compress(bytes), hash }
    }

    /// Its media type.
    pub const fn media(&self) -> &'static str {
        self.media
    }

    /// What is in it.
    pub const fn bytes(&self) -> &'static [u8] {
        self.bytes
    }

    /// The same with gzip.
    pub const fn compressed(&self) -> Option<&'static [u8]> {
        self.compressed
    }

    /// Tells it from every other version of it.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}

fn page_at(depth: usize) -> File {
    let folder = match depth {
        0 => "dashboard/".to_owned(),
        _ => "../".repeat(depth - 1),
    };
    let text = WRITTEN.replace("\"/dashboard/assets/", &format!("\"{folder}assets/"));
    File::new("index.html", HTML, text.leak().as_bytes())
}

/// Leaked on purpose: each is made once and kept until the process ends.
fn compress(bytes: &[u8]) -> Option<&'static [u8]> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    Some(encoder.finish().ok()?.leak())
}

/// The one page, where a path below the root of the dashboard may be a place in it: which part is shown
/// depends on the path, and the script reads that. A name with a slash in it is escaped there, so a path has
/// few parts; of what they name, the interface knows more.
pub fn page(path: &str) -> Option<&'static File> {
    PAGES.get(path.matches('/').count())
}

/// The file of a name.
pub fn asset(name: &str) -> Option<&'static File> {
    ASSETS.iter().find(|file| file.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_the_files_by_their_hashes() {
        for (path, folder) in
            [("", "dashboard/"), ("/", ""), ("/tasks", ""), ("/tasks/worker/a%2Fb", "../../")]
        {
            let text = std::str::from_utf8(page(path).expect("a place").bytes()).expect("UTF-8");
            for name in ["app.js", "app.css", "icon.svg"] {
                let file = asset(name).expect("a file");
                let link = format!("=\"{folder}assets/{name}?v={}\"", file.hash());
                assert!(
                    text.contains(&link),
                    "{link} is not in dist/index.html: run `cargo xtask dashboard`"
                );
            }
        }
        assert!(page(&"/x".repeat(DEEPEST)).is_some() && page(&"/x".repeat(DEEPEST + 1)).is_none());
        assert!(asset("index.html").is_none() && asset("../mod.rs").is_none() && asset("").is_none());
    }

    #[test]
    fn the_first_load_is_small() {
        let compressed = |name| asset(name).and_then(File::compressed).map_or(0, <[u8]>::len);
        assert!((1..=60 << 10).contains(&compressed("app.js")), "{}", compressed("app.js"));
        assert!((1..=12 << 10).contains(&compressed("app.css")), "{}", compressed("app.css"));
        assert!(compressed("licenses.txt") > 0);
    }

    #[test]
    fn no_script_or_style_stands_in_the_page() {
        let text = WRITTEN;
        assert!(!text.contains("<style") && !text.contains("style=") && !text.contains(" on"), "{text}");
        assert_eq!(
            text.matches("<script").count(),
            text.matches("<script type=\"module\" src=").count(),
            "{text}"
        );
    }
}
