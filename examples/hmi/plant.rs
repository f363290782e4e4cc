//! A plant that isn't there: a tank with a pump, a valve and a heater, behind a controller that
//! speaks Modbus TCP. `hmi plant ADDRESS` runs it; any Modbus client can drive it.
//!
//! It comes to harm if the tank runs over, if it is heated while it is dry, and if it boils, and
//! counts that. It knows no limits itself, but shuts everything off when its heartbeat register
//! stands still for two seconds.

use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::time::interval;
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};
use tokio_modbus::{ExceptionCode, Request, Response};

use crate::Outcome;
use crate::field::{FULL, HEARTBEAT, HOLDING};

/// How often the world goes on.
const STEP: Duration = Duration::from_millis(50);

/// How long the heartbeat may stand still.
const SILENCE: Duration = Duration::from_secs(2);

/// What an actuator does in a second, at its full set point.
const FILLS: f64 = 3.0;
const EMPTIES: f64 = 4.0;
const WARMS: f64 = 3.0;

/// How much of the difference to the room's temperature is lost in a second.
const COOLS: f64 = 0.01;

/// Degrees, of the room and of the water that comes in.
const ROOM: f64 = 20.0;

/// Litres a minute are so many times a percent of the tank a second.
const LITRES: f64 = 60.0;

/// The tank and its controller.
struct Plant {
    /// Percent.
    level: f64,
    /// Degrees.
    temperature: f64,
    damage: u16,
    is_harmed: bool,
    inflow: f64,
    outflow: f64,
    holding: [u16; HOLDING as usize],
    heard: Instant,
    is_shut_off: bool,
}

impl Plant {
    fn new() -> Self {
        Self {
            level: 40.0,
            temperature: ROOM,
            damage: 0,
            is_harmed: false,
            inflow: 0.0,
            outflow: 0.0,
            holding: [0; HOLDING as usize],
            heard: Instant::now(),
            is_shut_off: true,
        }
    }

    fn go_on(&mut self, seconds: f64) {
        if !self.is_shut_off && self.heard.elapsed() > SILENCE {
            self.is_shut_off = true;
            self.holding[..3].fill(0);
            eprintln!("plant: nothing was heard, and everything is shut off");
        }
        let [pump, valve, heater] =
            [0, 1, 2].map(|at| f64::from(self.holding[at]) / f64::from(FULL));
        self.inflow = pump * FILLS;
        self.outflow = valve * EMPTIES * (self.level / 100.0).max(0.0).sqrt();
        self.level += (self.inflow - self.outflow) * seconds;
        // The less there is, the faster it warms, and the more comes in, the cooler it gets.
        let content = self.level.max(1.0);
        let warmed = heater * WARMS * 50.0 / content - (self.temperature - ROOM) * COOLS;
        let mixed = (ROOM - self.temperature) * self.inflow / content;
        self.temperature += (warmed + mixed) * seconds;
        let harm =
            self.level > 100.0 || self.temperature > 100.0 || heater > 0.0 && self.level < 5.0;
        if harm && !self.is_harmed {
            self.damage += 1;
            eprintln!("plant: harm at {:.1} %, {:.1} degrees", self.level, self.temperature);
        }
        self.is_harmed = harm;
        self.level = self.level.clamp(0.0, 100.0);
        self.temperature = self.temperature.clamp(0.0, 150.0);
    }

    fn inputs(&self) -> [u16; 6] {
        [
            register(self.level * 100.0),
            register(self.temperature * 10.0),
            register(self.inflow * LITRES),
            register(self.outflow * LITRES),
            self.damage,
            u16::from(self.is_shut_off),
        ]
    }

    fn write(&mut self, address: u16, values: &[u16]) -> Result<(), ExceptionCode> {
        for (register, value) in (address..).zip(values) {
            let name = match register {
                0 => "pump",
                1 => "valve",
                2 => "heater",
                HEARTBEAT => {
                    // Only a heart that beats is one.
                    if self.holding[usize::from(HEARTBEAT)] != *value {
                        self.heard = Instant::now();
                        self.is_shut_off = false;
                    }
                    self.holding[usize::from(HEARTBEAT)] = *value;
                    continue;
                }
                _ => return Err(ExceptionCode::IllegalDataAddress),
            };
            if *value > FULL {
                return Err(ExceptionCode::IllegalDataValue);
            }
            if self.holding[usize::from(register)] != *value {
                eprintln!("plant: {name} {value}");
            }
            self.holding[usize::from(register)] = *value;
        }
        Ok(())
    }
}

/// A number as a register has it, cut to its range.
fn register(number: f64) -> u16 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "cut before")]
    let whole = number.clamp(0.0, f64::from(u16::MAX)) as u16;
    whole
}

#[derive(Clone)]
struct Controller(Arc<Mutex<Plant>>);

impl Controller {
    fn plant(&self) -> std::sync::MutexGuard<'_, Plant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, request: &Request<'_>) -> Result<Response, ExceptionCode> {
        let some = |all: &[u16], from: u16, count: u16| {
            let (from, count) = (usize::from(from), usize::from(count));
            let found = all.get(from..from + count).map(<[u16]>::to_vec);
            found.ok_or(ExceptionCode::IllegalDataAddress)
        };
        let mut plant = self.plant();
        Ok(match request {
            Request::ReadInputRegisters(from, count) => {
                Response::ReadInputRegisters(some(&plant.inputs(), *from, *count)?)
            }
            Request::ReadHoldingRegisters(from, count) => {
                Response::ReadHoldingRegisters(some(&plant.holding, *from, *count)?)
            }
            Request::WriteSingleRegister(at, value) => {
                plant.write(*at, &[*value])?;
                Response::WriteSingleRegister(*at, *value)
            }
            Request::WriteMultipleRegisters(from, values) => {
                plant.write(*from, values)?;
                let count =
                    u16::try_from(values.len()).map_err(|_| ExceptionCode::IllegalDataValue)?;
                Response::WriteMultipleRegisters(*from, count)
            }
            _ => return Err(ExceptionCode::IllegalFunction),
        })
    }
}

impl Service for Controller {
    type Request = Request<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        ready(self.answer(&request))
    }
}

/// Runs the plant, until it is killed. Prints its address, and tells on standard error whatever
/// moves in it.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(address: SocketAddr) -> Outcome {
    let listener = TcpListener::bind(address).await?;
    println!("plant: tcp:{}", listener.local_addr()?);
    let controller = Controller(Arc::new(Mutex::new(Plant::new())));
    let world = controller.clone();
    tokio::spawn(async move {
        let mut steps = interval(STEP);
        let mut last = Instant::now();
        loop {
            steps.tick().await;
            world.plant().go_on(last.elapsed().as_secs_f64());
            last = Instant::now();
        }
    });
    let on_connected = |stream, from| {
        let controller = controller.clone();
        async move { accept_tcp_connection(stream, from, move |_| Ok(Some(controller.clone()))) }
    };
    Server::new(listener).serve(&on_connected, |_| {}).await?;
    Ok(())
}
