//! Events of a layer's code, by the crate `tracing`, in the daemon's log.
//!
//! ```no_run
//! use cofferdam::{Daemon, Layer, LayerError};
//! use tracing_subscriber::layer::SubscriberExt;
//! use tracing_subscriber::util::SubscriberInitExt;
//!
//! async fn keeper(layer: Layer) -> Result<(), LayerError> {
//!     tracing::info!(keys = 3, "ready");
//!     layer.stopping().await;
//!     Ok(())
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     tracing_subscriber::registry().with(cofferdam::log::layer()).init();
//!     Daemon::new("keeper.toml").layer("keeper", keeper).main()
//! }
//! ```
//!
//! An event keeps its level, target, fields and spans, and is stamped with the instance that tells it
//! by the framework's own writer of the log, in whose hands it is text from a stranger: control
//! characters are escaped, and a layer that has been taken over tells lies in its own name alone.
//! `log.level` in the policy says which events are shown; the others cost next to nothing.
//!
//! # Bounds
//! An event is at most 4 KiB: a message of 2 KiB, 32 fields of 512 bytes, the 8 innermost spans. What
//! doesn't fit is left out, and the event says that it was cut. Where the log doesn't take what a layer
//! tells, the layer waits a tenth of a second, once; then events are dropped and counted until there is
//! room again. It takes the system calls `write` and `poll`, which `@core` has.

mod sink;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

pub(crate) use self::sink::begin;
use crate::policy::plan::LogLevel;
pub use crate::wire::control::LogFormat;
use crate::wire::event::{Event, MAX_FIELDS, MAX_MESSAGE, MAX_NAME, MAX_SPANS, MAX_TEXT, Span};
use crate::wire::event::{Value, cut};

/// A layer of a `tracing` subscriber that sends events to the daemon's log.
///
/// In the supervisor's process, where the program's `main` runs as well, events are lines on standard
/// error.
pub fn layer() -> Events {
    Events(())
}

/// Sends events to the daemon's log; made by [`layer`].
#[derive(Debug)]
pub struct Events(());

/// What is told of a span, which it keeps itself.
struct Told(Fields);

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Events {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        span.extensions_mut().insert(Told(fields));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(Told(fields)) = span.extensions_mut().get_mut() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let metadata: &Metadata<'_> = event.metadata();
        if *metadata.level() > sink::level() {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut spans = Vec::new();
        for span in context.event_scope(event).into_iter().flatten().take(MAX_SPANS) {
            let extensions = span.extensions();
            let fields = extensions.get().map(|Told(fields)| fields.named.clone());
            let name = name(span.name());
            spans.push(Span { name, fields: fields.unwrap_or_default() });
        }
        spans.reverse();
        sink::tell(Event {
            level: level_of(*metadata.level()),
            target: name(metadata.target()),
            message: fields.message,
            fields: fields.named,
            spans,
            lost: 0,
            cut: fields.cut,
        });
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(sink::level())
    }
}

/// What is told by name, and the message.
#[derive(Default)]
struct Fields {
    message: String,
    named: Vec<(String, Value)>,
    cut: bool,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        let name = name(field.name());
        if let Some((_, known)) = self.named.iter_mut().find(|(other, _)| *other == name) {
            *known = value;
        } else if self.named.len() < MAX_FIELDS {
            self.named.push((name, value));
        } else {
            self.cut = true;
        }
    }

    fn add_text(&mut self, field: &Field, mut text: String) {
        if field.name() == "message" {
            self.cut |= cut(&mut text, MAX_MESSAGE);
            self.message = text;
        } else {
            self.cut |= cut(&mut text, MAX_TEXT);
            self.add(field, Value::Text(text));
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add_text(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, value[..value.floor_char_boundary(MAX_MESSAGE + 1)].to_owned());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, Value::Float(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Unsigned(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Bool(value));
    }
}

fn name(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_NAME)].to_owned()
}

fn level_of(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

/// The filter that lets through what is of this level or matters more.
fn filter_of(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}
