//! Lists the files of `migrations/` for `store/migrations.rs`.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// From here.
const MIGRATIONS: &str = "../../migrations";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={MIGRATIONS}");
    let mut code = String::new();
    for database in ["mysql", "sqlite"] {
        let directory = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join(MIGRATIONS).join(database);
        let mut names = Vec::new();
        for entry in fs::read_dir(&directory)? {
            names.push(
                entry?.file_name().into_string().map_err(|name| format!("{} is no name", name.display()))?,
            );
        }
        names.sort();
        writeln!(code, "pub(super) const {}: &[(&str, &str)] = &[", database.to_uppercase())?;
        for name in names {
            let version = name.split_once('_').filter(|(version, _)| version.parse::<i64>().is_ok());
            if version.is_none() || !name.ends_with(".up.sql") && !name.ends_with(".down.sql") {
                return Err(format!(
                    "{}/{name} must be named as 0001_noun.up.sql or .down.sql",
                    directory.display()
                )
                .into());
            }
            // Read by the compiler, which notices when the whole directory has been moved.
            let path = format!("/{MIGRATIONS}/{database}/{name}");
            writeln!(code, "    ({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), {path:?}))),")?;
        }
        writeln!(code, "];")?;
    }
    Ok(fs::write(Path::new(&std::env::var("OUT_DIR")?).join("migrations.rs"), code)?)
}
