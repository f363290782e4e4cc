//! Which program is learned from, as whom, and with what around it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Args, Refusal};
use crate::ident::Name;
use crate::policy::plan::{LayerPlan, Program, View};

/// A program to learn from.
pub(super) struct Chosen {
    /// Its layer.
    pub name: Name,
    /// Its real path, as the policy says it.
    pub path: String,
    /// Its arguments; the first is its path.
    pub words: Vec<String>,
    /// Its environment.
    pub env: Vec<(String, String)>,
    /// Who it is, if not who learns.
    pub user: Option<(u32, u32)>,
    /// Where it starts.
    pub cwd: PathBuf,
}

/// What of the environment is taken over; the policy says it.
pub(in crate::cli) const KEPT: [&str; 6] = ["HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "TZ"];

/// The program of the command line.
pub(super) fn choose(args: &Args) -> Result<Chosen, Refusal> {
    let text = |text: &std::ffi::OsString| {
        text.clone().into_string().map_err(|text| Refusal(2, no_text(Path::new(&text))))
    };
    let command: Vec<String> = args.command.iter().map(text).collect::<Result<_, _>>()?;
    let Some((program, rest)) = command.split_first() else {
        return Err(Refusal(2, "no program is named".to_owned()));
    };
    let path = find(program)?;
    let name = match &args.name {
        Some(name) => Name::new(name).map_err(|why| Refusal(2, format!("--name: {why}")))?,
        None => name_of(&path),
    };
    let words = std::iter::once(path.clone()).chain(rest.iter().cloned()).collect();
    let kept = KEPT.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
    let mut env: std::collections::BTreeMap<String, String> = kept.collect();
    env.extend(args.env.iter().cloned());
    let cwd = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let env = env.into_iter().collect();
    Ok(Chosen { name, path, words, env, user: user(args)?, cwd })
}

/// The program of a policy's layer.
pub(super) fn of_layer(layer: &LayerPlan, args: &Args) -> Result<Chosen, Refusal> {
    let Program::Exec(exec) = &layer.program else {
        let words = format!(
            "layer `{}` executes no program of its own, and what a `run` layer does can't be watched \
             from outside: run the daemon with `--audit DIR`, and ask its denials what to change",
            layer.name
        );
        return Err(Refusal(2, words));
    };
    let mut words = exec.clone();
    if !args.command.is_empty() {
        words = choose(args)?.words;
    }
    let Some(path) = words.first().cloned() else {
        return Err(Refusal(2, format!("layer `{}` has no program", layer.name)));
    };
    find(&path)?;
    let env = layer.env.clone().into_iter().chain(args.env.iter().cloned()).collect();
    let user = user(args)?;
    Ok(Chosen { name: layer.name.clone(), path, words, env, user, cwd: "/".into() })
}

/// The path of a program, as it is found by name.
pub(in crate::cli) fn locate(program: &str) -> Result<PathBuf, Refusal> {
    let search = std::env::var("PATH").unwrap_or_else(|_| "/usr/bin:/bin".to_owned());
    let found = if program.contains('/') {
        Some(PathBuf::from(program))
    } else {
        search
            .split(':')
            .map(|directory| Path::new(directory).join(program))
            .find(|it| is_there(it))
    };
    let missing = || Refusal(3, format!("no program `{program}` is in PATH ({search})"));
    found.ok_or_else(missing)
}

/// The path of a program, as it is found by name. Within the system's directories a link stays one, for
/// some programs go by their own name.
pub(in crate::cli) fn find(program: &str) -> Result<String, Refusal> {
    let found = locate(program)?;
    let cant = |error| Refusal(3, format!("`{program}` can't be run: {error}"));
    let real = found.canonicalize().map_err(cant)?;
    if !is_there(&real) {
        return Err(Refusal(3, format!("`{program}` isn't executable, or no file")));
    }
    let above = found.parent().filter(|above| !above.as_os_str().is_empty());
    let above = above.unwrap_or(Path::new(".")).canonicalize().map_err(cant)?;
    let link = above.join(found.file_name().unwrap_or_default());
    let is_shown = |path: &Path| View::system().paths().any(|shown| path.starts_with(shown));
    let real = if is_shown(&link) && is_shown(&real) { link } else { real };
    real.into_os_string().into_string().map_err(|path| Refusal(3, no_text(Path::new(&path))))
}

pub(in crate::cli) fn no_text(path: &Path) -> String {
    format!("`{}` is no text, which a policy could not say", path.display())
}

fn is_there(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// A layer's name made of a path.
pub(in crate::cli) fn name_of(path: &str) -> Name {
    let file = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let plain: String = file
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .skip_while(|c| !c.is_ascii_lowercase())
        .take(Name::MAX)
        .collect();
    Name::new(plain.trim_end_matches('-'))
        .or_else(|_| Name::new("program"))
        .unwrap_or_else(|_| unreachable!("`program` is a name"))
}

fn user(args: &Args) -> Result<Option<(u32, u32)>, Refusal> {
    let Some(user) = &args.user else { return Ok(None) };
    if !rustix::process::geteuid().is_root() {
        return Err(Refusal(2, "--user: only root can be somebody else".to_owned()));
    }
    if let Ok(number) = user.parse() {
        return Ok(Some((number, number)));
    }
    match nix::unistd::User::from_name(user) {
        Ok(Some(found)) => Ok(Some((found.uid.as_raw(), found.gid.as_raw()))),
        _ => Err(Refusal(2, format!("--user: there is no user `{user}`"))),
    }
}
