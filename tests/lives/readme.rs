//! The program of README.md, word for word: `readme::the_program_survives_its_layers` compares them.

use cofferdam::{Daemon, Layer};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

async fn listener(layer: Layer) -> Result {
    let https = layer.acceptor("https")?;
    let keeper = layer.channel("sign")?;
    // Until the daemon is asked to stop.
    while let Some(accepted) = layer.until_stopping(https.accept()).await {
        let mut connection = accepted?;
        // A keeper that dies now fails this call and nothing else; its next life gets the next one.
        let call = keeper.call("sign").timeout(Duration::from_secs(2));
        if let Ok(signature) = call.send(b"digest").await {
            let _ = connection.write_all(&signature.body).await;
        }
    }
    Ok(())
}

async fn keeper(layer: Layer) -> Result {
    let key = layer.file("key")?; // opened by the supervisor: this layer can open nothing
    let key = std::io::read_to_string(key)?;
    // Answers calls until the daemon is asked to stop. Who asks may die meanwhile: no harm done.
    let sign = layer.channel("sign")?;
    sign.serve(async |request| match request.method.as_str() {
        "sign" => Ok([key.as_bytes(), &request.message.body].concat()),
        _ => Err("there is no such method"),
    })
    .await?;
    Ok(())
}

fn main() -> std::process::ExitCode {
    // `args`: the program takes `--policy FILE`, `--audit DIR`, `--var NAME=VALUE` and the like.
    Daemon::new("signer.toml").args().layer("listener", listener).layer("keeper", keeper).main()
}

// What is not in README.md: how this test program starts it.

/// What README's `main` does, as a layer of this test program.
pub(crate) fn layers(daemon: Daemon) -> Daemon {
    daemon.layer("listener", listener).layer("keeper", keeper)
}

/// README's `main`.
pub(crate) fn run() -> std::process::ExitCode {
    main()
}
