"use strict";

const ACTUATORS = ["pump", "valve", "heater"];
const KEPT = 600; // Pictures of the trend: two minutes.
const SILENCE = 2000; // Milliseconds without a picture, after which none is believed.

const element = id => document.getElementById(id);
const percent = value => (value / 10).toFixed(1) + " %";
let session = null;
let number = 0;
let heard = 0;
let trend = [];
let shown = "";

function make(tag, text, kind) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

for (const actuator of ACTUATORS) {
  const form = make("form", "", "setpoint");
  form.id = "set-" + actuator;
  const now = make("output", "–");
  now.id = "now-" + actuator;
  const value = make("input", "");
  Object.assign(value, { type: "number", min: 0, max: 100, step: 0.1, required: true, disabled: true });
  value.setAttribute("aria-label", "new set point of the " + actuator + " in percent");
  const button = make("button", "Set");
  button.disabled = true;
  form.append(make("span", actuator), now, value, button);
  form.addEventListener("submit", event => {
    event.preventDefault();
    ask("/set", { actuator, value: Math.round(Number(value.value) * 10) });
  });
  element("setpoints").append(form);
}

function say(text, refused) {
  element("answer").textContent = text;
  element("answer").className = refused ? "refused" : "";
}

async function post(path, body) {
  const headers = { "content-type": "application/json" };
  if (session) headers["x-session"] = session;
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}

async function ask(path, body) {
  // Larger than all before, also after the page was loaded anew.
  number = Math.max(number + 1, Date.now());
  try {
    const decision = await post(path, { number, ...body });
    say(decision.refused ? `refused to ${decision.what}: ${decision.refused}` : `${decision.who}: ${decision.what}`, decision.refused);
  } catch (error) {
    say(error.message, true);
  }
}

element("log-in").addEventListener("submit", async event => {
  event.preventDefault();
  const name = element("name").value;
  try {
    const welcome = await post("/log-in", { name, code: element("code").value });
    session = welcome.session;
    element("log-in").hidden = true;
    element("who").hidden = false;
    element("who").textContent = name + (welcome.may_set ? "" : " (may look)");
    for (const field of document.querySelectorAll(".setpoint input, .setpoint button")) field.disabled = !welcome.may_set;
    ACTUATORS.forEach((actuator, at) => { element("set-" + actuator).elements[1].value = welcome.last[at] / 10; });
    say("", false);
  } catch (error) {
    say(error.message, true);
  }
  element("code").value = "";
});

function show(picture) {
  heard = Date.now();
  const image = picture.image;
  document.body.classList.toggle("blind", !image);
  element("state").textContent = image ? "live" : "the field doesn't answer";
  element("state").className = image ? "live" : "";
  if (image) {
    element("level").textContent = (image.level / 100).toFixed(1) + " %";
    element("temperature").textContent = (image.temperature / 10).toFixed(1) + " °C";
    element("inflow").textContent = image.inflow + " l/min";
    element("outflow").textContent = image.outflow + " l/min";
    const height = 164 * image.level / 10000;
    element("water").setAttribute("height", height);
    element("water").setAttribute("y", 257 - height);
    ACTUATORS.forEach((actuator, at) => {
      element("now-" + actuator).textContent = percent(image.set[at]);
      element(actuator).classList.toggle("runs", image.set[at] > 0);
    });
    trend.push([image.level / 100, image.temperature / 10]);
    trend = trend.slice(-KEPT);
    draw();
  }
  // What didn't change stays: a button must not be exchanged under the finger that presses it.
  const lists = JSON.stringify([picture.alarms, picture.happened, session]);
  if (lists !== shown) list(picture);
  shown = lists;
}

function list(picture) {
  element("alarms").replaceChildren(...picture.alarms.map(alarm => {
    const line = make("li", alarm.text, "u" + alarm.urgency + (alarm.is_on ? "" : " over"));
    if (alarm.acknowledged) {
      line.append(make("time", " – seen by " + alarm.acknowledged));
    } else {
      const button = make("button", "Seen");
      button.dataset.alarm = alarm.number;
      button.disabled = !session;
      button.addEventListener("click", () => ask("/acknowledge", { alarm: alarm.number }));
      line.prepend(button);
    }
    return line;
  }), ...(picture.alarms.length ? [] : [make("li", "none")]));
  element("happened").replaceChildren(...picture.happened.map(one => {
    const line = make("li", "", "u" + one.urgency);
    line.append(make("time", new Date(one.at).toLocaleTimeString() + " "), `${one.who}: ${one.text}`);
    return line;
  }));
}

function draw() {
  const canvas = element("trend");
  const { width, height } = canvas;
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  pen.clearRect(0, 0, width, height);
  [["--water", 0], ["--warm", 1]].forEach(([colour, which]) => {
    pen.beginPath();
    pen.lineWidth = 2.5;
    pen.strokeStyle = style.getPropertyValue(colour);
    trend.forEach((values, at) => {
      const x = width - (trend.length - at) * width / KEPT;
      pen[at ? "lineTo" : "moveTo"](x, height - 4 - (height - 8) * values[which] / 100);
    });
    pen.stroke();
  });
}

function follow() {
  const live = new EventSource("/live");
  live.onmessage = event => show(JSON.parse(event.data));
}

// A picture that stands still must not look like a plant that does.
setInterval(() => {
  if (Date.now() - heard > SILENCE) {
    document.body.classList.add("blind");
    element("state").textContent = "no connection: this picture is old";
    element("state").className = "";
  }
}, 500);

follow();
