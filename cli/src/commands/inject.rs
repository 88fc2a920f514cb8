//! `leno inject`: a sidecar beside what is already written.

use std::path::{Path, PathBuf};

use leno_control_plane::config::Problem;
use leno_control_plane::validate;

use super::report::print_problems;
use crate::args::Global;
use crate::client;
use crate::failure::{Exit, Failure};
use crate::inject::{Kind, compose, files, kind, pod};
use crate::output::{self, count};
use crate::sources::Sources;

/// Put a sidecar beside each service of a docker-compose file, or into the pods of Kubernetes manifests
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    pub input: Input,
    /// Write the file instead of printing it, and make the secrets that it needs
    #[arg(long)]
    pub write: bool,
    /// Only what is labelled leno.dev/inject: "true", instead of everything that is not labelled "false"
    #[arg(long)]
    pub only_labelled: bool,
    /// Image of the sidecar in pods [default: leno-proxy:latest]; compose files take the variable LENO_PROXY_IMAGE
    #[arg(long, value_name = "IMAGE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub image: Option<String>,
    /// Where sidecars in pods reach the control plane [default: leno-control-plane.leno-system:15010]
    #[arg(long, value_name = "HOST:PORT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub control_plane: Option<String>,
    /// ConfigMap of each pod's namespace with the mesh's root certificates, its entry ca.crt [default: leno-root]
    #[arg(long, value_name = "NAME", value_parser = config_map)]
    pub ca_config_map: Option<String>,
}

/// The file that a command edits.
#[derive(Debug, clap::Args)]
pub struct Input {
    /// The file, or - for standard input
    #[arg(value_name = "FILE", required_unless_present = "named")]
    path: Option<PathBuf>,
    /// The same, as other commands take it
    #[arg(short, long = "file", value_name = "FILE", conflicts_with = "path", id = "named")]
    file: Option<PathBuf>,
}

const EXAMPLES: &str = "Examples:
  leno inject docker-compose.yml              Print the file with sidecars and a control plane
  leno inject docker-compose.yml --write      Write it, and the secrets in .leno; then docker-compose up
  leno inject -f deployment.yaml              Print a manifest with a sidecar in each pod
  leno uninject docker-compose.yml --write    The file as it was

Labels of a compose service (docs/compose.md):
  leno.dev/inject: \"false\"                    Leave it out of the mesh
  leno.dev/ports: \"http=8080,grpc=9090\"       Name the app's ports, for Services in ./mesh
  leno.dev/exclude-ports: \"3306\"              Connect to these ports without the mesh";

/// The text of a file that is to be edited.
pub struct Text {
    /// As the user named it.
    pub name: String,
    /// Where it is; `-` for standard input.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

impl Input {
    /// Reads the file.
    ///
    /// # Errors
    /// It is a folder or cannot be read, or it is standard input and `write` asks for writing it.
    pub fn read(self, write: bool) -> Result<Text, Failure> {
        let path = self.path.or(self.file).unwrap_or_default();
        if path.is_dir() {
            let what = format!("{} is a folder", path.display());
            return Err(Failure::new(Exit::Failed, what, "name one file, such as docker-compose.yml"));
        }
        if write && path.as_os_str() == "-" {
            let what = "standard input cannot be written to";
            return Err(Failure::new(Exit::Usage, what, "name the file, or leave --write out"));
        }
        let mut sources = Sources::read(std::slice::from_ref(&path))?;
        match sources.files.pop() {
            Some(source) => Ok(Text { name: source.name, path, text: source.content }),
            None => {
                print_problems(&sources.problems);
                Err(Failure::new(Exit::Failed, "the file was not read", ""))
            }
        }
    }
}

impl Text {
    /// Writes the new text, unless it is the same, or prints it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, text: &str, write: bool) -> Result<(), Failure> {
        match write {
            true if text == self.text => Ok(()),
            true => files::replace(&self.path, text),
            false => output::exactly(text),
        }
    }
}

fn config_map(name: &str) -> Result<String, String> {
    match validate::is_dns_subdomain(name) {
        true => Ok(name.to_owned()),
        false => Err("write a name as Kubernetes has it, for example leno-root".to_owned()),
    }
}

/// Runs the command.
///
/// # Errors
/// Something in the file would not work in the mesh, or it cannot be written.
pub fn run(args: Args, global: &Global) -> Result<(), Failure> {
    let (write, only_labelled) = (args.write, args.only_labelled);
    let of_pods = args.image.is_some() || args.control_plane.is_some() || args.ca_config_map.is_some();
    let default = pod::Options::default();
    let options = pod::Options {
        image: args.image.unwrap_or(default.image),
        control_plane: args.control_plane.unwrap_or(default.control_plane),
        ca_config_map: args.ca_config_map.unwrap_or(default.ca_config_map),
        only_labelled,
    };
    let input = args.input.read(write)?;
    match kind(&input.text, &input.name).map_err(refused)? {
        Kind::Compose if of_pods => {
            let what =
                "--image, --control-plane and --ca-config-map are for Kubernetes manifests, and this is a compose file";
            let hint = "leave them out; set LENO_PROXY_IMAGE where docker-compose runs to choose the image";
            Err(Failure::new(Exit::Usage, what, hint))
        }
        Kind::Compose => inject_compose(&input, write, only_labelled, global),
        Kind::Kubernetes => inject_pods(&input, write, options),
    }
}

fn inject_pods(input: &Text, write: bool, options: pod::Options) -> Result<(), Failure> {
    let injected = pod::inject(&input.text, &input.name, &options).map_err(refused)?;
    show(&injected.warnings);
    input.put(&injected.text, write)?;
    if injected.pods == 0 {
        eprintln!("{}: there is no pod to inject", input.name);
    }
    Ok(())
}

fn inject_compose(input: &Text, write: bool, only_labelled: bool, global: &Global) -> Result<(), Failure> {
    let folder = files::folder_of(&input.path);
    let options = compose::Options {
        namespace: global.namespace().to_owned(),
        only_labelled,
        mesh_folder: folder.join("mesh").is_dir(),
        owner: files::owner(&folder),
    };
    let injected = compose::inject(&input.text, &input.name, &options).map_err(refused)?;
    show(&injected.warnings);
    if !write {
        input.put(&injected.text, write)?;
        let shown = injected.secrets.join(", ");
        eprintln!("needs the secrets {shown} in {}; --write makes them", secrets_in(&folder).display());
        return Ok(());
    }
    // The file comes last: when it names the secrets, they are there.
    let made = files::make_secrets(&folder, &injected.secrets, options.owner)?;
    input.put(&injected.text, write)?;
    let state = if injected.text == input.text { "unchanged" } else { "injected" };
    output::line(format!(
        "{} {state}, {} made in {}",
        input.name,
        count(made.len() as u64, "secret"),
        secrets_in(&folder).display()
    ))
}

fn secrets_in(folder: &Path) -> PathBuf {
    folder.join(files::FOLDER).join("secrets")
}

/// Prints problems as every command does, and counts the errors.
fn show(problems: &[Problem]) -> u64 {
    let shown: Vec<client::Problem> = problems.iter().map(client::Problem::from).collect();
    print_problems(&shown)
}

/// The failure of a file that was refused; its problems are printed.
pub fn refused(problems: Vec<Problem>) -> Failure {
    let errors = show(&problems);
    Failure::new(Exit::Failed, format!("{}; nothing was written", count(errors, "problem")), "")
}
