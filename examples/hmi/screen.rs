//! The screen: a web page that shows the plant, and passes on what operators ask for.
//!
//! It is the part that strangers' programs talk to, and it can change nothing by itself: what an
//! operator asks for is a request to the interlock, under a token that only the interlock gives.

mod live;
mod pages;

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::message::{CallError, Channel, Message};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use self::live::Live;
use self::pages::{Body, failure, json, page};
use crate::Outcome;
use crate::protocol::{Actuator, Ask, Decision, LogIn, Seen, Token, Welcome};

/// Browsers' connections at once. With a descriptor each they stay below the policy's `files`.
const CONNECTIONS: usize = 100;

/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(10);

/// How long a request's body may take, and its largest size in bytes.
const BODY: Duration = Duration::from_secs(5);
const LARGEST: usize = 4 << 10;

/// How long the interlock may take to decide.
const DECIDING: Duration = Duration::from_secs(3);

/// How long browsers get to take their last answer.
const LAST: Duration = Duration::from_secs(1);

pub(crate) async fn screen(layer: Layer) -> Outcome {
    let acceptor = layer.acceptor("browsers")?;
    let screen = Arc::new(Screen { requests: layer.channel("requests")?, live: Live::new() });
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let (stop, _) = watch::channel(false);
    tokio::spawn(Arc::clone(&screen).follow(layer.clone()));
    while let Some(connection) = layer.until_stopping(acceptor.accept()).await {
        let connection = connection?;
        // More than there is room for are closed at once: a browser comes again by itself.
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
        let (screen, mut stop) = (Arc::clone(&screen), stop.subscribe());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let screen = Arc::clone(&screen);
                async move { Ok::<_, Infallible>(screen.answer(request).await) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
            let mut serving = pin!(builder.serve_connection(TokioIo::new(connection), service));
            tokio::select! {
                // Whatever a browser does to its own connection ends nothing else.
                _ = serving.as_mut() => return drop(permit),
                _ = stop.wait_for(|&stop| stop) => serving.as_mut().graceful_shutdown(),
            }
            let _ = timeout(LAST, serving).await;
            drop(permit);
        });
    }
    stop.send_replace(true);
    screen.live.end();
    let _ = timeout(LAST, room.acquire_many(CONNECTIONS.try_into()?)).await;
    Ok(())
}

struct Screen {
    requests: Channel,
    live: Live,
}

impl Screen {
    /// Keeps what is shown up to date.
    async fn follow(self: Arc<Self>, layer: Layer) {
        if let Err(error) = self.live.follow(&layer).await {
            eprintln!("the picture stands still: {error}");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        match (request.method().clone(), path.as_str()) {
            (Method::GET | Method::HEAD, "/live") => self.live.stream(),
            (Method::GET | Method::HEAD, path) => page(path),
            (Method::POST, path) => match self.post(path, request).await {
                Ok(answer) => answer,
                Err(answer) => *answer,
            },
            _ => failure(StatusCode::METHOD_NOT_ALLOWED, "GET what is there, or POST a request"),
        }
    }

    async fn post(
        &self,
        path: &str,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Box<Response<Body>>> {
        let token = token(&request);
        let known =
            || token.ok_or_else(|| Box::new(failure(StatusCode::UNAUTHORIZED, "log in first")));
        match path {
            "/log-in" => {
                let LogInForm { name, code } = form(request).await?;
                let welcome: Welcome = self.ask("log-in", &LogIn { name, code }).await?;
                Ok(json(&WelcomeForm {
                    session: welcome.token.show(),
                    may_set: welcome.may_set,
                    last: welcome.last,
                }))
            }
            "/set" => {
                let token = known()?;
                let SetForm { number, actuator, value } = form(request).await?;
                let ask = Ask { token, number, actuator, value };
                Ok(json(&self.ask::<_, Decision>("set", &ask).await?))
            }
            "/acknowledge" => {
                let token = known()?;
                let SeenForm { number, alarm } = form(request).await?;
                let seen = Seen { token, number, alarm };
                Ok(json(&self.ask::<_, Decision>("acknowledge", &seen).await?))
            }
            _ => Err(Box::new(failure(StatusCode::NOT_FOUND, "no such request"))),
        }
    }

    /// Asks the interlock. More than the policy's rates allow wait, and not longer than it may take.
    async fn ask<T: Serialize, R: DeserializeOwned>(
        &self,
        method: &str,
        value: &T,
    ) -> Result<R, Box<Response<Body>>> {
        let unavailable = |why: &str| Box::new(failure(StatusCode::SERVICE_UNAVAILABLE, why));
        let message = Message::encode(value).map_err(|error| unavailable(&error.to_string()))?;
        match self.requests.call(method).timeout(DECIDING).send(message).await {
            Ok(answer) => answer.decode().map_err(|error| unavailable(&error.to_string())),
            Err(CallError::Refused { reason, .. }) => {
                Err(Box::new(failure(StatusCode::FORBIDDEN, &reason)))
            }
            Err(error) => Err(unavailable(&error.to_string())),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogInForm {
    name: String,
    code: String,
}

#[derive(Serialize)]
struct WelcomeForm {
    session: String,
    may_set: bool,
    last: [u16; 3],
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetForm {
    number: u64,
    actuator: Actuator,
    value: u16,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SeenForm {
    number: u64,
    alarm: u32,
}

/// Of whom a request is. It is a header, which no other site's page can set.
fn token(request: &Request<Incoming>) -> Option<Token> {
    Token::read(request.headers().get("x-session")?.to_str().ok()?)
}

/// Reads a body of JSON.
async fn form<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Box<Response<Body>>> {
    let bad = |why: String| Box::new(failure(StatusCode::BAD_REQUEST, &why));
    let body = Limited::new(request.into_body(), LARGEST).collect();
    let body = timeout(BODY, body).await.map_err(|_| bad("it took too long".to_owned()))?;
    let body: Bytes = body.map_err(|error| bad(error.to_string()))?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))
}
