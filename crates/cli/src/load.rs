//! From a spec file to a request: everything local that it names is read and uploaded.
//!
//! Local paths are relative to the file's own folder, so that a file means the same from wherever it is
//! applied. All faults are found before anything is sent.

use std::{
    fs, io,
    io::Read as _,
    path::{Component, Path, PathBuf},
};

use dure_client::{Client, ClientError, hash_file};
use dure_types::{
    Code, Digest, FileEntry,
    change::{ChangeRequest, DatasetDocument, Document, EnvironmentDocument, JobDocument},
    environment::EnvironmentInput,
    spec::{
        EnvironmentUse, Spec,
        parse::{LARGEST_FILE, Located, SpecError, parse},
    },
};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    exit::CliError,
    messages, near,
    output::format,
    progress::Progress,
    upload::{self, Found, UploadError},
};

/// A requirements file, a pyproject.toml or a uv.lock is not larger than this.
const LARGEST_TEXT: u64 = 8 << 20;

/// A file that was read and whose local parts were all found.
pub struct Loaded {
    documents: Vec<Prepared>,
}

enum Prepared {
    Dataset(dure_types::spec::DatasetSpec, Vec<Found>),
    Environment(EnvironmentDocument),
    Job(Box<dure_types::spec::JobSpec>, Option<Vec<Found>>, Option<EnvironmentInput>),
    Service(dure_types::spec::ServiceSpec),
}

/// Reads and checks; sends nothing. Blocks.
pub fn load(file: &Path) -> Result<Loaded, CliError> {
    let (text, folder) = read(file)?;
    let located = parse(&text, &file.display().to_string()).map_err(CliError::Spec)?;
    let mut documents = Vec::new();
    let mut faults = Vec::new();
    for document in located {
        match prepare(&document, &folder) {
            Ok(prepared) => documents.push(prepared),
            Err(fault) => faults.push(*fault),
        }
    }
    if faults.is_empty() { Ok(Loaded { documents }) } else { Err(CliError::Spec(faults)) }
}

fn read(file: &Path) -> Result<(String, PathBuf), CliError> {
    let unreadable = |error: io::Error| CliError::unreadable(file, &error);
    let mut bytes = Vec::new();
    // One byte more than allowed, so that the parser sees that it is too large.
    let most = LARGEST_FILE as u64 + 4;
    let folder = if file == Path::new("-") {
        io::stdin().lock().take(most).read_to_end(&mut bytes).map_err(unreadable)?;
        PathBuf::from(".")
    } else {
        fs::File::open(file).and_then(|open| open.take(most).read_to_end(&mut bytes)).map_err(unreadable)?;
        match file.parent() {
            Some(parent) if parent != Path::new("") => parent.to_owned(),
            _ => PathBuf::from("."),
        }
    };
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        CliError::Spec(vec![not_utf8(file, error.as_bytes(), at)])
    })?;
    Ok((text, folder))
}

/// With the place of the first byte that is no text.
fn not_utf8(file: &Path, bytes: &[u8], at: usize) -> SpecError {
    let before = String::from_utf8_lossy(&bytes[..at]).into_owned();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before[line_start..].chars().count();
    SpecError {
        code: Code::SpecSyntax,
        message: messages::not_utf8(format!("0x{:02x}", bytes[at])),
        file: file.display().to_string(),
        line: u32::try_from(before.matches('\n').count() + 1).unwrap_or(u32::MAX),
        column: u32::try_from(column + 1).unwrap_or(u32::MAX),
        length: 1,
        source_line: String::new(),
        mark: 0,
        suggestion: None,
        hint: Some(messages::not_utf8_next()),
    }
}

/// Where a path of the spec leads, written as shortly as it can be.
fn local(document: &Located, folder: &Path, field: &[&str], path: &str) -> Result<PathBuf, Fault> {
    if path.contains("://") {
        return Err(Box::new(document.error(Code::SpecFile, field, messages::remote_source(path))));
    }
    let joined = folder.join(path);
    let short: PathBuf = joined.components().filter(|part| *part != Component::CurDir).collect();
    Ok(if short.as_os_str().is_empty() { PathBuf::from(".") } else { short })
}

type Fault = Box<SpecError>;

fn prepare(document: &Located, folder: &Path) -> Result<Prepared, Fault> {
    Ok(match &document.spec {
        Spec::Dataset(spec) => {
            let source = local(document, folder, &["source"], &spec.source)?;
            let found = upload::walk_data(&source).map_err(|error| walk_fault(document, &["source"], &error))?;
            Prepared::Dataset(spec.clone(), found)
        }
        Spec::Environment(spec) => {
            let input = environment(
                document,
                folder,
                &[],
                &spec.packages,
                spec.requirements.as_deref(),
                spec.pyproject.as_deref(),
                spec.python.as_deref(),
            )?;
            Prepared::Environment(EnvironmentDocument { name: spec.name.clone(), input })
        }
        Spec::Job(spec) => {
            let code = match &spec.code {
                Some(code) => {
                    let code = local(document, folder, &["code"], code)?;
                    Some(upload::walk_code(&code).map_err(|error| walk_fault(document, &["code"], &error))?)
                }
                None => None,
            };
            let environment = match &spec.environment {
                Some(EnvironmentUse::Inline(inline)) => Some(environment(
                    document,
                    folder,
                    &["environment"],
                    &inline.packages,
                    inline.requirements.as_deref(),
                    inline.pyproject.as_deref(),
                    inline.python.as_deref(),
                )?),
                Some(EnvironmentUse::Named(_)) | None => None,
            };
            Prepared::Job(Box::new(spec.clone()), code, environment)
        }
        Spec::Service(spec) => Prepared::Service(spec.clone()),
    })
}

fn walk_fault(document: &Located, path: &[&str], error: &UploadError) -> Fault {
    let message = match error.next() {
        Some(next) => format!("{error}; {next}"),
        None => error.to_string(),
    };
    Box::new(document.error(Code::SpecFile, path, format::without_errno(&message)))
}

fn environment(
    document: &Located,
    folder: &Path,
    at: &[&str],
    packages: &[String],
    requirements: Option<&str>,
    pyproject: Option<&str>,
    python: Option<&str>,
) -> Result<EnvironmentInput, Fault> {
    let place = |field| [at, &[field]].concat();
    let fault = |field, message| Box::new(document.error(Code::SpecFile, &place(field), message));
    let mut input = EnvironmentInput {
        packages: packages.to_vec(),
        python: python.map(str::to_owned),
        ..EnvironmentInput::default()
    };
    if let Some(file) = requirements {
        input.requirements = Some(
            text(&local(document, folder, &place("requirements"), file)?)
                .map_err(|message| fault("requirements", message))?,
        );
    }
    if let Some(file) = pyproject {
        let mut file = local(document, folder, &place("pyproject"), file)?;
        if file.is_dir() {
            file.push("pyproject.toml");
        }
        input.pyproject = Some(text(&file).map_err(|message| fault("pyproject", message))?);
        let lock = file.with_file_name("uv.lock");
        if lock.exists() {
            input.uv_lock = Some(text(&lock).map_err(|message| fault("pyproject", message))?);
        }
    }
    check(document, at, &input)?;
    Ok(input)
}

fn text(file: &Path) -> Result<String, String> {
    let unreadable = |error: io::Error| {
        let message = format::without_errno(&messages::cannot_read(file.display(), &error));
        near::instead_of(file, &error).map_or_else(|| message.clone(), |next| format!("{message}; {next}"))
    };
    let facts = fs::metadata(file).map_err(unreadable)?;
    if !facts.is_file() {
        return Err(messages::cannot_read(file.display(), "it is not a file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(file).and_then(|open| open.take(LARGEST_TEXT + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST_TEXT {
        return Err(messages::too_large(file.display(), format::bytes(LARGEST_TEXT)));
    }
    String::from_utf8(bytes).map_err(|_| messages::not_text(file.display()))
}

/// What no build could make is said with its place in the file: `packages[1]` is the second of `packages`.
fn check(document: &Located, at: &[&str], input: &EnvironmentInput) -> Result<(), Fault> {
    dure_image::validate(input).map_err(|error| {
        let (field, rest) = error.place.split_once(['[', ' ']).unwrap_or((error.place.as_str(), ""));
        let index = rest.trim_end_matches(']');
        let place: Vec<&str> = match field {
            // Of what the fields say together.
            "environment" => at.to_vec(),
            "uv.lock" => [at, &["pyproject"]].concat(),
            field => [at, &[field, index]].concat(),
        };
        Box::new(document.error(Code::SpecValue, &place, error.to_string()))
    })
}

impl Loaded {
    /// Uploads what is missing there; what is there already is not sent again.
    pub async fn send(self, client: &Client, progress: &Progress, rerun: bool) -> Result<ChangeRequest, CliError> {
        let mut documents = Vec::with_capacity(self.documents.len());
        for document in self.documents {
            documents.push(match document {
                Prepared::Dataset(spec, found) => {
                    let manifest = send(client, progress, spec.name.as_str(), found).await?;
                    Document { dataset: Some(DatasetDocument { spec, manifest }), ..none() }
                }
                Prepared::Environment(environment) => Document { environment: Some(environment), ..none() },
                Prepared::Job(spec, code, environment) => {
                    let code = match code {
                        Some(found) => Some(send(client, progress, spec.name.as_str(), found).await?),
                        None => None,
                    };
                    Document { job: Some(JobDocument { spec: *spec, code, environment }), ..none() }
                }
                Prepared::Service(service) => Document { service: Some(service), ..none() },
            });
        }
        Ok(ChangeRequest { documents, rerun })
    }
}

fn none() -> Document {
    Document { dataset: None, environment: None, job: None, service: None }
}

/// Reads and uploads files; their manifest's digest.
pub async fn send(client: &Client, progress: &Progress, what: &str, found: Vec<Found>) -> Result<Digest, CliError> {
    let total = found.iter().map(|found| found.size).sum();
    let at_once = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    let bar = progress.bytes(messages::reading(what), total);
    let shown = &bar;
    let read = |found: Found| async move {
        let (digest, size) = hash_file(&found.file).await?;
        shown.inc(size);
        // The size is what was read: the file may have grown since it was found.
        Ok::<_, ClientError>((FileEntry { path: found.path, digest, size, executable: found.executable }, found.file))
    };
    let files: Vec<(FileEntry, PathBuf)> = stream::iter(found).map(read).buffered(at_once).try_collect().await?;
    bar.finish_and_clear();
    let bar = progress.bytes(messages::uploading(what), total);
    let digest = client.upload(files, |bytes| bar.inc(bytes)).await?;
    bar.finish_and_clear();
    Ok(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    #[test]
    fn files_are_found_beside_the_spec_and_read_in() {
        let folder = folder(&[
            (
                "deep/dure.yaml",
                "kind: environment\nname: a\npyproject: ..\n---\nkind: job\nname: b\ncode: src\nenvironment: {requirements: r.txt}\ncommand: x\n",
            ),
            ("pyproject.toml", "[project]"),
            ("uv.lock", "version = 1"),
            ("deep/src/a.py", "x"),
            ("deep/r.txt", "numpy"),
        ]);
        let loaded = load(&folder.path().join("deep/dure.yaml")).map_err(|error| error.render()).unwrap();
        let [Prepared::Environment(named), Prepared::Job(_, Some(code), Some(inline))] = loaded.documents.as_slice()
        else {
            panic!("two documents");
        };
        assert_eq!(
            (named.input.pyproject.as_deref(), named.input.uv_lock.as_deref()),
            (Some("[project]"), Some("version = 1"))
        );
        assert_eq!((code[0].path.as_str(), inline.requirements.as_deref()), ("a.py", Some("numpy")));
    }

    #[test]
    fn every_missing_file_is_named_with_its_place() {
        let folder = folder(&[(
            "dure.yaml",
            "kind: dataset\nname: d\nsource: ./none\n---\nkind: job\nname: b\ncode: gone\ncommand: x\n---\nkind: environment\nname: e\nrequirements: r.txt\n",
        )]);
        let Err(CliError::Spec(errors)) = load(&folder.path().join("dure.yaml")) else { panic!("faults") };
        let places: Vec<_> = errors.iter().map(|error| (error.code, error.line)).collect();
        assert_eq!(places, [(Code::SpecFile, 3), (Code::SpecFile, 7), (Code::SpecFile, 12)]);
    }

    #[test]
    fn a_missing_spec_is_a_wrong_command_line() {
        let Err(error) = load(Path::new("/nowhere/dure.yaml")) else { panic!("a fault") };
        assert_eq!(error.exit(), crate::exit::Exit::Usage);
        assert!(error.render().contains("/nowhere/dure.yaml"));
    }
}
