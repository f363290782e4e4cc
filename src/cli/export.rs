//! `cofferdam export POLICY --as systemd|oci-seccomp`: for who runs something else already.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value};

use super::read;
use crate::policy::plan::{LayerPlan, Plan};
use crate::review::export::{oci_seccomp, systemd};

/// Arguments of `cofferdam export`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What the form can't say is on standard error, a line each, and in the comments of
units. For most policies there is something.

Exit code 0: the export is written; 1: the policy has mistakes, or with --strict
something is not expressed.")]
pub struct Args {
    /// The policy to export
    #[arg(value_name = "POLICY")]
    policy: PathBuf,
    /// What to write
    #[arg(long = "as", value_enum, value_name = "FORM")]
    form: Form,
    /// Only this layer
    #[arg(long, value_name = "NAME")]
    layer: Option<String>,
    /// Take what can't be expressed for a finding
    #[arg(long)]
    strict: bool,
    #[command(flatten)]
    outside: read::Outside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// Units of systemd, what they can't say in comments
    Systemd,
    /// Seccomp profiles for containers; several layers are one object, by name
    OciSeccomp,
}

/// Writes the export to standard output, and what it can't say to standard error.
///
/// Exit code 0: it is written; 1: the policy has mistakes, or with `--strict` something is not
/// expressed; 2: there is no such layer; 3: the system refused.
pub fn run(args: &Args) -> ExitCode {
    let plan = match read::sound(&args.policy, &args.outside) {
        Ok(policy) => policy.plan,
        Err(code) => return code,
    };
    let mut stderr = anstream::stderr().lock();
    let wanted = |layer: &&LayerPlan| args.layer.as_ref().is_none_or(|name| layer.name == **name);
    let layers: Vec<_> = plan.layers.iter().filter(wanted).collect();
    if layers.is_empty() {
        let names: Vec<_> = plan.layers.iter().map(|layer| layer.name.as_str()).collect();
        let asked = args.layer.as_deref().unwrap_or_default().escape_debug();
        let names = names.join(", ");
        let _ = writeln!(stderr, "error: there is no layer `{asked}`; there are {names}");
        return ExitCode::from(2);
    }
    let (text, missing) = match args.form {
        Form::Systemd => units(&plan, &layers),
        Form::OciSeccomp => profiles(&plan, &layers),
    };
    for (layer, line) in &missing {
        let line = crate::text::neutralise(line.as_bytes());
        let _ = writeln!(stderr, "not expressed: layer {}: {line}", layer.name);
    }
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let _ = writeln!(stderr, "error: can't write the export: {error}");
            ExitCode::from(3)
        }
        _ => ExitCode::from(u8::from(args.strict && !missing.is_empty())),
    }
}

/// The text of an export, and what each layer's can't say.
type Written<'p> = (String, Vec<(&'p LayerPlan, String)>);

fn units<'p>(plan: &Plan, layers: &[&'p LayerPlan]) -> Written<'p> {
    let (mut texts, mut missing) = (Vec::new(), Vec::new());
    for layer in layers {
        let export = systemd(plan, layer);
        texts.push(export.value);
        missing.extend(export.not_expressed.into_iter().map(|line| (*layer, line)));
    }
    (texts.join("\n"), missing)
}

fn profiles<'p>(plan: &Plan, layers: &[&'p LayerPlan]) -> Written<'p> {
    let (mut all, mut missing) = (Map::new(), Vec::new());
    for layer in layers {
        let export = oci_seccomp(plan, layer);
        all.insert(layer.name.to_string(), export.value);
        missing.extend(export.not_expressed.into_iter().map(|line| (*layer, line)));
    }
    // One layer is one profile, ready for use.
    let value = match layers {
        [one] => all.remove(one.name.as_str()).unwrap_or_default(),
        _ => Value::Object(all),
    };
    (format!("{value:#}\n"), missing)
}
