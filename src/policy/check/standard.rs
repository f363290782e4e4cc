//! Checking `stdin`, `stdout` and `stderr`.

use crate::ident::Name;
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, Document, LayerText};
use crate::policy::nearest::nearest;
use crate::policy::plan::Stream;

/// The standard streams of a layer, in the order of their numbers.
pub(super) fn all(
    layer: &LayerText,
    document: &Document,
    out: &mut Diagnostics,
) -> [Option<Stream>; 3] {
    if let (Some(output), Some(error)) = (&layer.stdout, &layer.stderr)
        && output.value == error.value
        && error.value != Stream::INHERITED
    {
        out.error(Code::Contradiction, &error.span, "one pipe for two streams")
            .label("their bytes could not be told apart")
            .also(&output.span, "standard output is this pipe already")
            .help("give standard error a pipe of its own");
        return [None, None, None];
    }
    let [input, output, error] = written(layer);
    [(input, Way::In), (output, Way::Out), (error, Way::Error)]
        .map(|(text, way)| one(layer, text?, way, document, out))
}

/// What the policy says of each.
pub(super) const fn written(layer: &LayerText) -> [Option<&At<String>>; 3] {
    [layer.stdin.as_ref(), layer.stdout.as_ref(), layer.stderr.as_ref()]
}

/// Which standard stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    In,
    Out,
    Error,
}

/// `stdin = "pipe.NAME"`: the pipe must be there, and this layer at that end of it.
fn one(
    layer: &LayerText,
    text: &At<String>,
    way: Way,
    document: &Document,
    out: &mut Diagnostics,
) -> Option<Stream> {
    let (key, end, verb) = match way {
        Way::In => ("stdin", "to", "reads"),
        Way::Out => ("stdout", "from", "writes"),
        Way::Error => ("stderr", "from", "writes"),
    };
    if let (Some(run), None) = (&layer.run, &layer.exec) {
        let message = format!("a `run` layer has no `{key}`");
        out.error(Code::Contradiction, &text.span, message)
            .label("its function opens the pipe by name")
            .also(&run.span, "the layer is a function of the daemon's program")
            .help(format!("take out `{key}`"));
        return None;
    }
    if text.value == Stream::INHERITED {
        if let (Way::In, Some(copies)) =
            (way, layer.instances.as_ref().filter(|it| it.value.most > 1))
        {
            out.error(Code::Contradiction, &text.span, "several copies would read one input")
                .label("each byte goes to whichever copy reads first")
                .also(&copies.span, "there are several")
                .help("let a layer of one copy read it");
        }
        return Some(Stream::Inherited);
    }
    let found = text
        .value
        .strip_prefix("pipe.")
        .and_then(|name| document.pipes.iter().find(|pipe| pipe.name.value == name));
    let Some(pipe) = found else {
        let pipes = document.pipes.iter().map(|pipe| format!("pipe.{}", pipe.name.value));
        let ids: Vec<_> = pipes.chain([Stream::INHERITED.to_owned()]).collect();
        let message = format!("there is no pipe `{}`", text.value.escape_debug());
        out.error(Code::UnknownPipe, &text.span, message)
            .label(format!("`{key}` is a pipe, as in `\"pipe.NAME\"`, or `\"inherit\"`"))
            .did_you_mean(nearest(&text.value, ids.iter().map(String::as_str)));
        return None;
    };
    let at_end = if way == Way::In { &pipe.to } else { &pipe.from };
    if let Some(other) = at_end.as_ref().filter(|other| other.value != layer.name.value) {
        let message = format!("another layer {verb} this pipe");
        out.error(Code::Contradiction, &text.span, message)
            .label(format!("this layer is not its `{end}`"))
            .also(&other.span, "this one is")
            .help(format!("write `{end} = \"{}\"` there", layer.name.value.escape_debug()));
    }
    Name::new(&pipe.name.value).ok().map(Stream::Pipe)
}
