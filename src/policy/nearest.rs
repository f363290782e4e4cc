//! The nearest known word to an unknown one.

/// The candidate that a person most likely meant by `word`, if one is near enough: at most a
/// third of its letters wrong, a swapped pair counting as one.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    // No known word is that long, and the distance costs the product of the lengths.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase();
    let letters = word.chars().count();
    let allowed = (letters / 3).clamp(1, 4).min(letters.saturating_sub(1));
    candidates
        .into_iter()
        .map(|known| (strsim::damerau_levenshtein(&word, &known.to_ascii_lowercase()), known))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

/// Words in backquotes with commas: `` `a`, `b` or `c` ``.
pub(crate) fn one_of<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let words = ["run", "exec", "syscalls", "restart"];
        assert_eq!(nearest("sycsalls", words), Some("syscalls"));
        assert_eq!(nearest("RUN", words), Some("run"));
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest("x", ["a", "s"]), None);
        assert_eq!(nearest(&"syscalls".repeat(100), words), None);
        assert_eq!(one_of(words), "`run`, `exec`, `syscalls` or `restart`");
    }
}
