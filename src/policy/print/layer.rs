//! Printing `[layer.NAME]`.

use super::{REASON, Text, duration, inline, list, quote, rate, size, syscalls};
use crate::ident::Name;
use crate::policy::capability::CAPABILITIES;
use crate::policy::plan::{
    Amount, ConnectPlan, DirectoryPlan, Elastic, Health, InjectPlan, LayerPlan, Limits, ListenPlan,
    LogPlan, OnReload, Pass, Per, Program, Protection, Ready, Restart, RestartOn, StopSignal,
    Stream, View, Workers,
};
use crate::policy::value::show_view_part;

/// Takes the plan apart, so that the compiler names this when there is something more to print.
pub(super) fn print(layer: &LayerPlan, out: &mut Text) {
    let LayerPlan {
        name,
        program,
        instances,
        first: _,
        hosts,
        elastic,
        workers,
        syscalls: _,
        listen,
        connect,
        stdin,
        stdout,
        stderr,
        limits,
        restart,
        after,
        ready,
        reload,
        health,
        optional,
        view,
        directories,
        cwd,
        umask,
        env,
        threads,
        vars,
        grace,
        log,
        stop_signal,
        capabilities,
        execmem,
        uid,
        group,
    } = layer;
    out.table("layer", name.as_str());
    match program {
        Program::Run(name) => out.line("run", quote(name.as_str())),
        Program::Exec(words) => out.line("exec", list(words)),
    }
    out.line("instances", self::instances(*instances, *elastic));
    if !hosts.is_empty() {
        out.line("hosts", list(hosts.iter().map(Name::as_str)));
    }
    self::workers(workers.as_ref(), out);
    syscalls::print(layer, out);
    let sockets = listen.iter().map(|socket| (socket.name.as_str(), self::listen(socket)));
    out.line("listen", inline(sockets));
    if !connect.is_empty() {
        let targets = connect.iter();
        let targets = targets.map(|one| (one.name.as_str(), self::connect(one)));
        out.line("connect", inline(targets));
    }
    for (key, stream) in [("stdin", stdin), ("stdout", stdout), ("stderr", stderr)] {
        match stream {
            None => {}
            Some(Stream::Pipe(pipe)) => out.line(key, quote(&format!("pipe.{pipe}"))),
            Some(Stream::Inherited) => out.line(key, quote(Stream::INHERITED)),
        }
    }
    out.line("limits", self::limits(limits));
    out.line("restart", self::restart(restart));
    if !after.is_empty() {
        out.line("after", list(after.iter().map(Name::as_str)));
    }
    life(*ready, *reload, *health, out);
    out.line("optional", list(optional.iter().copied().map(Protection::name)));
    out.line("view", self::view(view));
    for DirectoryPlan { kind, path, size } in directories {
        let sized = size.map(|size| inline([("path", quote(path)), ("size", self::size(size))]));
        out.line(kind.name(), sized.unwrap_or_else(|| quote(path)));
    }
    out.line("cwd", quote(cwd));
    out.line("umask", quote(&format!("{umask:04o}")));
    if !env.is_empty() {
        out.line("env", inline(env.iter().map(|(key, value)| (key.as_str(), quote(value)))));
    }
    if let Some(threads) = threads {
        out.line("runtime", quote("multi-thread"));
        out.line("threads", threads);
    }
    if !vars.is_empty() {
        out.line("vars", list(vars.keys()));
    }
    out.line("grace", duration(*grace));
    out.line("log", self::log(log, program));
    // A `run` layer has none, and the default is the same.
    if *stop_signal != StopSignal::default() {
        out.line("stop-signal", quote(stop_signal.name()));
    }
    let names = capabilities.iter().filter_map(|number| CAPABILITIES.get(usize::from(*number)));
    out.line("capabilities", list(names));
    out.line("execmem", execmem);
    if let Some(uid) = uid {
        out.line("uid", uid);
    }
    if let Some(group) = group {
        out.line("group", group);
    }
    out.line("because", quote(REASON));
}

fn life(ready: Ready, reload: OnReload, health: Option<Health>, out: &mut Text) {
    out.line("ready", quote(ready.name()));
    if reload != OnReload::default() {
        out.line("reload", quote(reload.name()));
    }
    if let Some(Health { every, within }) = health {
        let keys = [("every", duration(every)), ("within", duration(within))];
        out.line("health", inline(keys));
    }
}

fn instances(max: u16, elastic: Option<Elastic>) -> String {
    let Some(Elastic { min, idle, busy }) = elastic else { return max.to_string() };
    let counts = [("min", min.into()), ("max", max.into()), ("busy", busy)];
    let counts = counts.map(|(key, count): (_, u32)| (key, count.to_string()));
    inline(counts.into_iter().chain([("idle", duration(idle))]))
}

fn workers(workers: Option<&Workers>, out: &mut Text) {
    let Some(Workers { warm, lifetime, wait }) = workers else { return };
    out.line("per", quote(Per::Connection.name()));
    out.line("warm", warm);
    if let Some(lifetime) = lifetime {
        out.line("lifetime", duration(*lifetime));
    }
    if let Some(wait) = wait {
        out.line("wait", duration(*wait));
    }
}

fn view(view: &View) -> String {
    if view.is_empty() {
        return quote("empty");
    }
    list(view.parts().iter().map(|part| show_view_part(*part)))
}

fn listen(socket: &ListenPlan) -> String {
    let ListenPlan { name: _, address, pass, rate, per_source, max } = socket;
    let address = quote(&address.to_string());
    if *pass == Pass::Name && rate.is_none() && per_source.is_none() {
        return address;
    }
    let mut keys = vec![("address", address)];
    keys.extend(pass.word().map(|word| ("pass", quote(word.name()))));
    if let Pass::Fd(number) = pass {
        keys.push(("fd", number.to_string()));
    }
    keys.extend(rate.map(|limit| ("rate", self::rate(limit))));
    keys.extend(per_source.map(|most| ("per-source", most.to_string())));
    keys.extend(max.map(|most| ("max", most.to_string())));
    inline(keys)
}

fn connect(target: &ConnectPlan) -> String {
    let ConnectPlan { name: _, address, inject } = target;
    let address = quote(&address.to_string());
    let Some(InjectPlan { header, prefix, file, authorities }) = inject else { return address };
    let mut keys = vec![("address", address), ("inject", quote(header))];
    keys.extend((!prefix.is_empty()).then(|| ("prefix", quote(prefix))));
    keys.push(("secret", quote(file)));
    keys.extend(authorities.as_ref().map(|path| ("authorities", quote(path))));
    inline(keys)
}

fn limits(limits: &Limits) -> String {
    let text = |amount| match amount {
        Amount::Bytes(bytes) => size(bytes),
        other => other.number().to_string(),
    };
    inline(limits.each().into_iter().filter_map(|(key, amount)| Some((key, text(amount?)))))
}

/// A program of another make has no level, and always the default.
fn log(log: &LogPlan, program: &Program) -> String {
    let LogPlan { level, rate } = log;
    let mut keys = vec![("rate", self::rate(*rate))];
    if matches!(program, Program::Run(_)) {
        keys.push(("level", quote(level.name())));
    }
    inline(keys)
}

fn restart(restart: &Restart) -> String {
    let Restart { on, max, within, then, backoff } = restart;
    let mut keys = vec![("on", quote(on.name())), ("then", quote(then.name()))];
    // Without restarts these two are refused, and always the default.
    if *on != RestartOn::Never {
        keys.push(("max", max.to_string()));
        keys.push(("within", duration(*within)));
        keys.push(("backoff", duration(*backoff)));
    }
    inline(keys)
}
