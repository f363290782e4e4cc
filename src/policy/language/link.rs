//! `[channel.NAME]` and `[file.NAME]`.

use super::host::End;
use super::kinds::{
    Any, Boolean, Inside, Integer, Level, Name, Nested, Path, Rate, Reason, Size, Text, Word,
    WordList,
};
use super::section::{is_empty, not_twice, word};
use super::{AUDIT, At, BECAUSE, Kind, Section, Takes, string, strings, table, wrong_type};
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::plan::{
    Audit, ChannelPlan, DescriptorKind, DescriptorPlan, Direction, FileRight, Grantable, Transport,
    Word as _,
};
use crate::policy::tree::{Node, Value};

const MESSAGE: u64 = ChannelPlan::MAX_MESSAGE as u64;

table! { named CHANNEL, ChannelText: "channel", "[channel.NAME]", "a channel";
    "Messages between two layers. Only these two can read or write them: each end has a key that \
     the other one knows and nobody else has.";

    from: End => "the layer that speaks first, as in `from = \"a\"`";
        "The layer that speaks first and calls methods; `\"a@one\"` says that it runs on that host."; "";
    to: End => "the layer that answers, as in `to = \"b\"`";
        "The layer that answers; `\"b@two\"` says that it runs on that host."; "";
    max: Size<u32, 1, MESSAGE> = 64 << 10;
        "The largest message, in bytes.";
        "Both endpoints check it before they read.";
    methods: Methods, or "one without a name, both ways";
        "What may be called: a list of names, or a table of methods with their limits.";
        "Checked by the receiving endpoint. Who breaks the protocol is ended: it is taken as \
         compromised.";
    fds: Inside<DescriptorsText>, or "none";
        "Descriptors that messages carry whose method doesn't say otherwise.";
        "SCM_RIGHTS; switched off in the kernel (SO_PASSRIGHTS) where none may be sent.";
    audit: Word<Audit> = Audit::Digest;
        "What the audit log keeps of each message: nothing, its hash, or all of it, sealed to \
         `payload-key`. Written, and not `\"none\"`, it demands a log.";
        "Reported by both ends, each through a ring of its own.";
    witness: Boolean = false;
        "Whether the built-in witness relays it and reports each message too, for ends that might \
         both lie. It demands a log, takes a process hop, and a link ends with its witness.";
        "A confined process between the ends, without keys; it sees sealed messages. All channels \
         with one have at most 64 links between copies of layers.";
    transport: Word<Transport> = Transport::Socket;
        "How messages travel: through a socket, or through shared memory.";
        "SOCK_SEQPACKET socketpair(2), or a ring in a sealed memfd with futex(2) doorbells.";
    + because: Reason = BECAUSE;
}

table! { named METHOD, MethodText: "method", "methods = { NAME = { ... } }", "a method";
    "One method of a channel. Its limits are enforced by who receives the message.";

    max: Size<u32, 1, MESSAGE>, or "the channel's `max`";
        "Its largest message, request and reply alike.";
        "The receiving endpoint.";
    rate: Rate, or "no limit"; "Calls in a while, of one instance; more wait. Through a witness twice as many may \
        come at once."; "The sender's library, and the receiver: whoever sends more than that has left its library behind, and the \
        link ends.";
    once: Boolean = false; "Whether an instance calls it once only."; "The receiver.";
    after: Name, or "any time";
        "The method of this channel that must have been called before.";
        "The receiver.";
    direction: Word<Direction> = Direction::Forth;
        "Who calls: `forth` is the channel's `from`; `back` is a one-way message of its `to`.";
        "The receiver.";
    fds: Nested<DescriptorsText>, or "the channel's `fds`";
        "Descriptors that its messages carry, request and answer alike, in place of the channel's.";
        "Both endpoints; switched off in the kernel (SO_PASSRIGHTS) where no method has any.";
    stream: Boolean = false;
        "Whether one call is answered by any number of messages, up to an end, and not by one.";
        "The receiver; it also counts that no more come than it has asked for.";
}

table! { DESCRIPTORS, DescriptorsText: "fds", "fds = { ... }", "`fds`";
    "Descriptors that messages of a channel carry.";

    max: Integer<u8, 0, { DescriptorPlan::MAX as u64 }>, or "0";
        "How many at most in one message.";
        "More than these end the channel, and are closed.";
    kinds: WordList<DescriptorKind>, or "none";
        "Of which kinds. `file-read` is a regular file open for reading only, `stream` a \
         connected socket, `sealed-memory` a memfd that nobody can change any more.";
        "The receiver compares fstat(2), F_GETFL and F_GET_SEALS with what was declared.";
}

table! { named FILE, FileText: "file", "[file.NAME]", "a file";
    "A file or directory, and which layer may do what with it. A directory stands for all that \
     lies beneath it.";

    path: Path => "`path = \"/an/absolute/path\"`";
        "Absolute path, without `.`, `..`, doubled or final slashes.";
        "A single file is opened by the supervisor and passed as a descriptor; a directory is \
         mounted at its own path in the layer's root.";
    at: Path, or "the same as `path`";
        "Where layers see what is at `path`, if elsewhere. Only of what they reach by a path: not \
         what is passed as a descriptor, nor with `deny`, `max-open` or `append`.";
        "The place of its mount in the layer's root.";
    grant: Rights => "`grant = { LAYER = [\"read\"] }`, or take the file out";
        "Rights by layer, as in `{ keeper = [\"read\"] }`. `create` is of regular files, `remove` of \
         all but directories; `move` is to rename or link from one directory to another, of what \
         the layer may make and remove there; `owner` is all of them but `execute`.";
        "Landlock rules with exactly these rights; the mount is read-only unless one of them \
         changes something. With `deny`, `max-open` or `append` a helper opens, by openat2(2), and \
         passes the descriptor.";
    deny: Any<Text>, or "none";
        "Names beneath a directory that nobody opens, with `*` for any text; letters of either \
         case are one.";
        "The supervisor, before openat2(2).";
    max_open: Integer<u32, 1, { 1 << 16 }>, or "no limit";
        "Descriptors of it that a layer may hold from the broker at once.";
        "The supervisor counts; a layer that lies about what it has closed is bounded by \
         `limits.files`.";
    optional: Boolean = false;
        "Whether it may be missing. A layer that starts meanwhile goes without, and its next life \
         looks again; a single file of a `run` layer is looked for whenever the layer asks for it. \
         Without this a layer whose path is missing doesn't start.";
        "The mount of a life, or the helper at each `layer.file`.";
    follow: Boolean = false;
        "Whether a `run` layer that asks for this single file gets the one that has the name by \
         then, as certificates and secrets are renewed. Without this it gets the one of its start. \
         Programs of `exec` layers open paths: grant them the directory.";
        "A helper, which sees the directory that the file lies in, opens it at each `layer.file`.";
    + audit: Level = AUDIT, because: Reason = BECAUSE;
}

impl FileText {
    /// Whether a layer opens what lies beneath through a helper; see [`FilePlan::is_brokered`].
    ///
    /// [`FilePlan::is_brokered`]: crate::policy::plan::FilePlan::is_brokered
    pub(crate) fn is_brokered(&self, layer: &str) -> bool {
        let grants = self.grant.iter().flat_map(|grant| &grant.value);
        let mut rights =
            grants.filter(|(one, _)| one.value == layer).flat_map(|(_, rights)| &rights.value);
        let appends = rights.any(|right| right.value == FileRight::Append);
        appends || self.follow() || self.max_open.is_some() || !self.deny.is_empty()
    }

    /// Whether it is at this path of the host.
    pub(crate) fn is_at(&self, path: &str) -> bool {
        self.path.as_ref().is_some_and(|own| own.value == path)
    }

    /// Whether a layer has any right on it.
    pub(crate) fn is_granted_to(&self, layer: &str) -> bool {
        self.grant.iter().flat_map(|grant| &grant.value).any(|(one, _)| one.value == layer)
    }
}

/// `["sign"]`, or `{ sign = { max = "4KiB" } }`.
pub(crate) struct Methods;

impl Takes for Methods {
    type Text = Option<At<Vec<MethodText>>>;
    const KIND: Kind =
        Kind::Either(&Kind::List(&Kind::Name, true), &Kind::Names(&Kind::Table(&METHOD)));

    fn read(channel: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let value = channel.get(key)?;
        let methods = match &value.value {
            Value::List(list) => {
                let names: Vec<_> = list.iter().filter_map(|item| string(item, key, out)).collect();
                not_twice(names.iter(), out);
                names.into_iter().map(|name| Section::empty(name, &METHOD).read(out)).collect()
            }
            Value::Table(_) => {
                let entries = channel.entries(key, out);
                let read = |(name, value)| {
                    Some(Section::open(value, &METHOD, out)?.called(name).read(out))
                };
                entries.into_iter().filter_map(read).collect()
            }
            _ => {
                let rule = "`methods` is a list of names, or a table of methods";
                return wrong_type(value, rule, out);
            }
        };
        Some(At { value: methods, span: value.span.clone() })
    }
}

/// One entry of `grant = { layer = ["read"] }`: the layer, and its rights.
pub(crate) type Grant = (At<String>, At<Vec<At<FileRight>>>);

/// Rights by layer. A grant of which nothing could be read is none.
pub(crate) struct Rights;

impl Takes for Rights {
    type Text = Option<At<Vec<Grant>>>;
    const KIND: Kind = Kind::Names(&Kind::List(&Word::<Grantable>::KIND, true));

    fn read(file: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let node = file.get(key)?;
        let mut grants = Vec::new();
        for (layer, value) in file.entries(key, out) {
            grants.extend(rights(value, &layer, out).map(|rights| (layer, rights)));
        }
        let any = !grants.is_empty() || is_empty(node);
        any.then(|| At { value: grants, span: node.span.clone() })
    }
}

fn rights(
    value: &Node,
    layer: &At<String>,
    out: &mut Diagnostics,
) -> Option<At<Vec<At<FileRight>>>> {
    if let Value::String(text) = &value.value
        && let Some(rights) = spelled_out(text)
    {
        let rule = format!("`{}` is a list of rights", layer.value.escape_debug());
        let mistake = out.error(Code::WrongType, &value.span, rule);
        mistake.label("this is a string").help(format!("write `[{rights}]`"));
        return None;
    }
    let list = strings(value, &layer.value, out)?;
    not_twice(list.value.iter(), out);
    if list.value.is_empty() {
        let message = format!("`{}` is granted nothing", layer.value.escape_debug());
        out.error(Code::Empty, &list.span, message)
            .label("no rights")
            .help("name the rights, as in `[\"read\"]`, or take the layer out");
    }
    let rights = list.value.iter().flat_map(|text| word_of_rights(text, out)).collect();
    Some(At { value: rights, span: list.span })
}

/// The rights of one word, all at its place.
fn word_of_rights(text: &At<String>, out: &mut Diagnostics) -> Vec<At<FileRight>> {
    let meant = spelled_out(&text.value).or_else(|| called_elsewhere(&text.value));
    if let Some(rights) = meant {
        let message = format!("`grant` does not take `{}`", text.value);
        out.error(Code::UnknownWord, &text.span, message).help(format!("write {rights}"));
        return Vec::new();
    }
    let rights = word(text, "`grant`", Grantable::WORDS, out).map(|word| word.value.rights());
    let at = |value| At { value, span: text.span.clone() };
    rights.into_iter().flatten().map(at).collect()
}

/// What the rights are called by other programs and by the kernel.
fn called_elsewhere(word: &str) -> Option<String> {
    let right = match word.to_ascii_lowercase().as_str() {
        "delete" | "unlink" | "rm" => "remove",
        "makedir" | "make-dir" | "make_dir" | "mkdirs" => "mkdir",
        "removedir" | "remove-dir" | "remove_dir" => "rmdir",
        "rename" | "mv" | "link" | "hardlink" | "refer" => "move",
        "make-sym" | "make_sym" | "ln" => "symlink",
        "make-sock" | "make_sock" | "bind" | "unix" => "socket",
        "mkfifo" | "make-fifo" | "make_fifo" | "pipe" => "fifo",
        "readdir" | "read-dir" | "ls" => "list",
        "exec" | "run" => "execute",
        "all" | "full" | "own" | "everything" => "owner",
        _ => return None,
    };
    Some(format!("`\"{right}\"`"))
}

/// `"read", "write"` for `rw`, as people write rights elsewhere.
fn spelled_out(letters: &str) -> Option<String> {
    let right = |letter| match letter {
        'r' => Some("\"read\""),
        'w' => Some("\"write\""),
        'x' => Some("\"execute\""),
        _ => None,
    };
    let rights: Option<Vec<_>> = letters.chars().take(4).map(right).collect();
    rights.filter(|rights| !rights.is_empty()).map(|rights| rights.join(", "))
}
