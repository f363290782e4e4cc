//! The clients: `grid render`, `grid status`, `grid cancel`.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::picture::{Canvas, paint};
use crate::protocol::{JobStatus, Picture, Told, Wish};
use crate::scene::Verb;

/// How long a client goes on when the grid goes away in the middle.
const PATIENCE: Duration = Duration::from_mins(1);

/// Does what the command line says; gives the exit code.
pub(crate) fn run(verb: &Verb) -> i32 {
    let done = match verb {
        Verb::Render { file, size, tile, point, depth, priority, check, grid } => {
            let ((width, height), (re, im)) = (*size, *point);
            let picture = Picture { width, height, tile: *tile, re, im, depth: *depth };
            let done = render(grid.grid, &picture, *priority);
            done.and_then(|canvas| finish(&canvas, &picture, file, *check))
        }
        Verb::Status { grid } => status(grid.grid),
        Verb::Cancel { job, grid } => cancel(grid.grid, *job),
    };
    match done {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("grid: {error}");
            1
        }
    }
}

/// Has a picture painted, and waits for it.
fn render(grid: SocketAddr, picture: &Picture, priority: u8) -> Outcome<Canvas> {
    let wish = Wish::Render { picture: picture.clone(), priority };
    let job = match ask(grid, &wish)?.0 {
        Told::Job { job } => job,
        other => return Err(unexpected(&other)),
    };
    let mut canvas = Canvas::new(picture.clone());
    let mut seen = vec![false; picture.tiles() as usize];
    let mut since = Instant::now();
    while !watch(grid, job, &mut canvas, &mut seen, &mut since)? {
        if since.elapsed() >= PATIENCE {
            return Err(
                format!("nothing came of job {job} for a minute: it goes on without").into()
            );
        }
        sleep(Duration::from_millis(200));
    }
    // Nobody asks for it again.
    cancel(grid, job)?;
    Ok(canvas)
}

/// Takes in a job's tiles. False: the grid went away in the middle, which it may.
fn watch(
    grid: SocketAddr,
    job: u64,
    canvas: &mut Canvas,
    seen: &mut [bool],
    since: &mut Instant,
) -> Outcome<bool> {
    let Ok((mut told, mut more)) = ask(grid, &Wish::Watch { job }) else { return Ok(false) };
    loop {
        match told {
            Told::Watched { .. } => {}
            Told::Tile { tile, bytes } => {
                let mut points = vec![0; bytes as usize];
                if more.read_exact(&mut points).is_err() {
                    return Ok(false);
                }
                let fits = canvas.put(tile, &points);
                let Some(seen) = seen.get_mut(tile as usize).filter(|_| fits) else {
                    return Err(format!("tile {tile} has no place in the picture").into());
                };
                *seen = true;
                *since = Instant::now();
            }
            Told::Done => {
                bar(seen);
                return Ok(true);
            }
            Told::Refused { why } if why == "there is no such job" => return Err(why.into()),
            _ => return Ok(false),
        }
        bar(seen);
        told = match read(&mut more) {
            Ok(told) => told,
            Err(_) => return Ok(false),
        };
    }
}

/// Shows how much is there, to somebody who looks.
fn bar(seen: &[bool]) {
    let mut out = std::io::stderr();
    if out.is_terminal() {
        let done = seen.iter().filter(|seen| **seen).count();
        let full = done * 40 / seen.len().max(1);
        let _ = write!(out, "\r[{:<40}] {done}/{} tiles", "#".repeat(full), seen.len());
        if done == seen.len() {
            let _ = writeln!(out);
        }
    }
}

/// Writes the picture, and compares it with one that is painted here.
fn finish(canvas: &Canvas, picture: &Picture, file: &std::path::Path, check: bool) -> Outcome {
    let mut bytes = Vec::new();
    canvas.write(&mut bytes)?;
    BufWriter::new(File::create(file)?).write_all(&bytes)?;
    if check {
        let mut own = Canvas::new(picture.clone());
        for tile in 0..picture.tiles() {
            own.put(tile, &paint(picture, tile));
        }
        let mut expected = Vec::new();
        own.write(&mut expected)?;
        if bytes != expected {
            return Err("the picture is not the one that is painted here".into());
        }
        println!("{} tiles, byte for byte as painted here", picture.tiles());
    }
    Ok(())
}

fn status(grid: SocketAddr) -> Outcome {
    let status = match ask(grid, &Wish::Status)?.0 {
        Told::Status(status) => status,
        other => return Err(unexpected(&other)),
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "workers    {}", status.workers.len())?;
    for worker in &status.workers {
        writeln!(out, "           {worker}")?;
    }
    writeln!(out, "under way  {}", status.under_way)?;
    writeln!(out, "again      {}", status.again)?;
    writeln!(out, "twice      {}", status.twice)?;
    writeln!(out, "jobs       {}", status.jobs.len())?;
    for JobStatus { job, priority, tiles, done } in &status.jobs {
        writeln!(out, "           {job}: {done}/{tiles} tiles, priority {priority}")?;
    }
    Ok(())
}

fn cancel(grid: SocketAddr, job: u64) -> Outcome {
    match ask(grid, &Wish::Cancel { job })?.0 {
        Told::Done => Ok(()),
        other => Err(unexpected(&other)),
    }
}

/// Asks the grid for something. Gives its first word, and what follows.
fn ask(grid: SocketAddr, wish: &Wish) -> Outcome<(Told, BufReader<TcpStream>)> {
    let stream = TcpStream::connect_timeout(&grid, Duration::from_secs(5))
        .map_err(|error| format!("no grid at {grid}: {error}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(wish)?;
    line.push(b'\n');
    (&stream).write_all(&line)?;
    let mut reader = BufReader::new(stream);
    let told = read(&mut reader)?;
    Ok((told, reader))
}

fn read(reader: &mut impl BufRead) -> Outcome<Told> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

fn unexpected(told: &Told) -> Box<dyn std::error::Error> {
    match told {
        Told::Refused { why } => why.clone().into(),
        other => format!("it answers {other:?}").into(),
    }
}
