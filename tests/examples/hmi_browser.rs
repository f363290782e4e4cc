//! The example `hmi` as an operator sees it: a real browser, driven by `WebDriver`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::hmi::{Plant, picture, start};
use crate::support::process::eventually;

/// A browser without a window. W3C `WebDriver`, spoken by curl.
struct Browser {
    driver: Child,
    /// Of the session.
    url: String,
    _profile: TempDir,
}

/// The name by which an element is given back (W3C `WebDriver`, 11).
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

impl Browser {
    fn open(page: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .env("HOME", profile.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver");
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let port = line.split("started successfully on port ").nth(1)?;
            Some(port.trim_end_matches('.').to_owned())
        });
        let port = port.expect("the driver's port");
        let place = profile.path().to_str().unwrap();
        let arguments = json!([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1400,1000",
            format!("--user-data-dir={place}/profile")
        ]);
        let options = json!({"goog:chromeOptions": {"args": arguments}});
        let wish = json!({"capabilities": {"alwaysMatch": options}});
        let base = format!("http://127.0.0.1:{port}/session");
        let session = ask("POST", &base, &wish);
        let url = format!("{base}/{}", session["sessionId"].as_str().unwrap());
        let browser = Self { driver, url, _profile: profile };
        browser.ask("POST", "/url", &json!({"url": page}));
        browser
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        ask(method, &format!("{}{path}", self.url), body)
    }

    /// The path of the first element that a CSS selector finds.
    fn element(&self, selector: &str) -> String {
        let wish = json!({"using": "css selector", "value": selector});
        let found = self.ask("POST", "/element", &wish);
        format!("/element/{}", found[ELEMENT].as_str().unwrap_or_else(|| panic!("{selector}")))
    }

    fn text(&self, selector: &str) -> String {
        let path = format!("{}/text", self.element(selector));
        self.ask("GET", &path, &json!({})).as_str().unwrap().to_owned()
    }

    fn write(&self, selector: &str, text: &str) {
        let element = self.element(selector);
        self.ask("POST", &format!("{element}/clear"), &json!({}));
        self.ask("POST", &format!("{element}/value"), &json!({"text": text}));
    }

    fn click(&self, selector: &str) {
        let path = format!("{}/click", self.element(selector));
        self.ask("POST", &path, &json!({}));
    }

    fn waits_for(&self, selector: &str, text: &str) {
        eventually(&format!("{selector} says {text}"), || self.text(selector).contains(text));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.ask("DELETE", "", &json!({}));
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn ask(method: &str, url: &str, body: &Value) -> Value {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "-m", "60", "-X", method]);
    if method == "POST" {
        curl.args(["-H", "content-type: application/json", "-d", &body.to_string()]);
    }
    let output = curl.arg(url).output().expect("curl");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    answer["value"].clone()
}

#[test]
fn an_operator_sees_the_plant_and_sets_it() {
    let plant = Plant::start();
    let (mut daemon, url) = start("hmi", &plant, include_str!("../../policies/hmi.toml"));
    daemon.confined("screen/0.g1");
    eventually("the picture is live", || picture(&url)["image"]["level"].as_u64() == Some(4000));
    let browser = Browser::open(&url);
    browser.waits_for("#state", "live");
    browser.waits_for("#level", "40.0 %");

    browser.write("#name", "ann");
    browser.write("#code", "4321");
    browser.click("#log-in button");
    browser.waits_for("#answer", "no such name");
    browser.write("#code", "1234");
    browser.click("#log-in button");
    browser.waits_for("#who", "ann");

    browser.write("#set-pump input", "90");
    browser.click("#set-pump button");
    browser.waits_for("#answer", "the pump goes to 80.0 % at most");
    browser.write("#set-pump input", "20");
    browser.click("#set-pump button");
    browser.waits_for("#now-pump", "20.0 %");
    assert_eq!(plant.registers("4", 1), [200]);
    browser.waits_for("#happened", "ann: set the pump to 20.0 %");

    // Somebody at the tank opens everything: the alarm comes by itself, and is seen by ann.
    plant.write(1, 1000);
    browser.waits_for("#alarms", "the tank is nearly full");
    browser.click("#alarms li button");
    browser.waits_for("#alarms", "seen by ann");
    browser.waits_for("#happened", "switched off the pump: the tank is too full");
    eventually("it is off", || plant.registers("4", 1) == [0]);
    assert!(!plant.said("harm"));

    // A picture that stands still doesn't look like a plant that does.
    daemon.stop();
    browser.waits_for("#state", "this picture is old");
}
