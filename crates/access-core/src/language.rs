//! The languages that people are addressed in, and which of them a browser asks for.

use serde::{Deserialize, Serialize};

/// A language that every page and message is written in.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Language {
    /// English: also for whoever asks for none of these.
    #[default]
    #[serde(rename = "en")]
    English,
    /// Japanese.
    #[serde(rename = "ja")]
    Japanese,
}

impl Language {
    /// All of them; the first ones first where somebody asks for several alike.
    pub const ALL: [Self; 2] = [Self::English, Self::Japanese];

    /// Its BCP 47 tag.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Japanese => "ja",
        }
    }

    /// The language with this tag.
    #[must_use]
    pub fn of_tag(tag: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|language| language.tag() == tag)
    }

    /// Whether it is the one for those who ask for none.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The language that suits an `Accept-Language` header best
    /// (<https://www.rfc-editor.org/rfc/rfc9110#section-12.5.4>): a range counts for the language that it begins with
    /// (<https://www.rfc-editor.org/rfc/rfc4647#section-3.4>), `*` for those that no other range names, and among
    /// equals the one that is named first. What cannot be read is passed over: a page in another language is better
    /// than none.
    #[must_use]
    pub fn of_accept_language(header: &str) -> Self {
        let ranges: Vec<(&str, u16)> = header.split(',').filter_map(read_range).collect();
        let mut best = (Self::default(), 0, usize::MAX);
        for language in Self::ALL {
            let named = ranges.iter().enumerate().filter(|(_, (range, _))| {
                let primary = range.split('-').next().unwrap_or_default();
                primary.eq_ignore_ascii_case(language.tag())
            });
            let any = ranges
                .iter()
                .enumerate()
                .filter(|(_, (range, _))| *range == "*");
            // max_by_key takes the last of equals; the earliest one is wanted.
            let most = |(position, (_, weight)): &(usize, &(&str, u16))| {
                (*weight, std::cmp::Reverse(*position))
            };
            let Some((position, (_, weight))) =
                named.max_by_key(most).or_else(|| any.max_by_key(most))
            else {
                continue;
            };
            if *weight > best.1 || (*weight == best.1 && *weight > 0 && position < best.2) {
                best = (language, *weight, position);
            }
        }
        best.0
    }
}

/// A range and its weight in thousandths: `ja;q=0.8` is `("ja", 800)`. `None` if it is not one.
fn read_range(text: &str) -> Option<(&str, u16)> {
    let mut parts = text.split(';').map(str::trim);
    let range = parts.next().filter(|range| !range.is_empty())?;
    let weight = match parts.next() {
        None => 1000,
        Some(parameter) => {
            let (name, value) = parameter.split_once('=')?;
            if !name.trim().eq_ignore_ascii_case("q") {
                return None;
            }
            read_weight(value.trim())?
        }
    };
    Some((range, weight))
}

/// `0`, `0.5`, `1.000`: from 0 to 1 with at most three decimals
/// (<https://www.rfc-editor.org/rfc/rfc9110#section-12.4.2>), in thousandths.
fn read_weight(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{decimals:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", _) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_best_weight_wins() {
        use Language::{English, Japanese};
        for (header, language) in [
            ("", English),
            ("ja", Japanese),
            ("JA-jp", Japanese),
            ("ja,en-US;q=0.9,en;q=0.8", Japanese),
            ("en-US,en;q=0.9,ja;q=0.8", English),
            ("en;q=0.5, ja ; q=0.7", Japanese),
            ("fr-FR, ja;q=0.3, en;q=0.2", Japanese),
            ("fr, de;q=0.9", English),
            ("en, ja", English),
            ("ja, en", Japanese),
            ("*", English),
            ("ja;q=0.4, *;q=0.5", English),
            ("en;q=0, *", Japanese),
            ("en;q=0, ja;q=0", English),
            ("ja;q=0, *", English),
            ("jam, en;q=0.1", English),
            ("ja;q=1.5, en;q=0.1", English),
            ("ja;q=0.1234, en;q=0.1", English),
            ("ja;level=1, en;q=0.1", English),
            (";;;,,q=1,\u{7},ja;q=0.001", Japanese),
        ] {
            assert_eq!(Language::of_accept_language(header), language, "{header:?}");
        }
    }

    #[test]
    fn tags_are_those_of_the_documents() {
        for language in Language::ALL {
            assert_eq!(Language::of_tag(language.tag()), Some(language));
            let written = serde_json::to_value(language).unwrap();
            assert_eq!(written, serde_json::json!(language.tag()));
        }
        assert_eq!(Language::of_tag("de"), None);
    }

    proptest! {
        #[test]
        fn nobody_gets_a_language_that_they_did_not_name(header in any::<String>()) {
            let named = header.contains('*') || header.to_ascii_lowercase().contains("ja");
            prop_assert!(named || Language::of_accept_language(&header).is_default());
        }
    }
}
