//! What a probe is told to do, and how its layers learn it.

use cofferdam::ident::Instance;
use cofferdam::policy::plan::Plan;

use crate::attacks::Facts;

/// Who attacks, what with, and what is known.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    target: String,
    attacks: Vec<String>,
    /// What an attacker may have learned.
    pub(crate) facts: Facts,
    /// The policy's channels: name, from, to, method.
    pub(crate) channels: Vec<[String; 4]>,
}

impl Orders {
    /// Reads the daemon's arguments; gives the policy's path too.
    pub(crate) fn from_arguments(arguments: &[String]) -> Result<(String, Self), String> {
        let mut policy = None;
        let mut orders = Self::default();
        let mut rest = arguments.iter();
        while let Some(option) = rest.next() {
            let value = rest.next().ok_or_else(|| format!("{option} wants a value"))?;
            match option.as_str() {
                "--policy" => policy = Some(value.clone()),
                "--attack" => {
                    let (target, attacks) =
                        value.split_once(':').ok_or("--attack LAYER:NAME[,NAME...]")?;
                    orders.set_attack(target, attacks);
                }
                "--fact" => {
                    let (key, value) = value.split_once('=').ok_or("--fact K=V")?;
                    orders.facts.insert(key.to_owned(), value.to_owned());
                }
                other => return Err(format!("no option {other}")),
            }
        }
        Ok((policy.ok_or("--policy FILE is missing")?, orders))
    }

    fn set_attack(&mut self, target: &str, attacks: &str) {
        target.clone_into(&mut self.target);
        self.attacks = attacks.split(',').map(ToOwned::to_owned).collect();
    }

    /// Takes note of who talks to whom.
    pub(crate) fn learn_channels(&mut self, plan: &Plan) {
        self.channels = plan
            .channels
            .iter()
            .map(|channel| {
                let method = channel.methods.first().map_or("", |method| method.name.as_str());
                [channel.name.as_str(), channel.from.as_str(), channel.to.as_str(), method]
                    .map(ToOwned::to_owned)
            })
            .collect();
    }

    /// The text that travels in the daemon's settings.
    pub(crate) fn to_text(&self) -> String {
        let mut lines = vec![format!("attack {}:{}", self.target, self.attacks.join(","))];
        lines.extend(self.facts.iter().map(|(key, value)| format!("fact {key}={value}")));
        lines.extend(self.channels.iter().map(|parts| format!("channel {}", parts.join(":"))));
        lines.join("\n")
    }

    /// Reads it back; what it doesn't know, it passes over.
    pub(crate) fn parse(text: &str) -> Self {
        let mut orders = Self::default();
        for line in text.lines() {
            match line.split_once(' ') {
                Some(("attack", value)) => {
                    let (target, attacks) = value.split_once(':').unwrap_or_default();
                    orders.set_attack(target, attacks);
                }
                Some(("fact", value)) => {
                    let (key, value) = value.split_once('=').unwrap_or_default();
                    orders.facts.insert(key.to_owned(), value.to_owned());
                }
                Some(("channel", value)) => {
                    let parts: Vec<String> = value.split(':').map(ToOwned::to_owned).collect();
                    orders.channels.extend(<[String; 4]>::try_from(parts).ok());
                }
                _ => {}
            }
        }
        orders
    }

    /// What this instance shall attack with, in its first life.
    pub(crate) fn attack_of(&self, instance: &Instance) -> Option<&str> {
        let is_target = instance.layer == *self.target.as_str() && instance.generation == 1;
        let attack = self.attacks.get(usize::from(instance.index)).filter(|_| is_target)?;
        Some(attack.as_str()).filter(|attack| !attack.is_empty())
    }
}
