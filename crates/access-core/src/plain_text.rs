//! Hygiene for text that people wrote: what may not stand in a name, and how free text is made harmless before it is
//! shown.
//!
//! Two different answers for two different things. A *name* (role, target, person) with a hidden character is refused,
//! because a name that looks like another is an attack or a mistake. *Free text* (a reason, a comment) is kept as it was
//! written and [`neutralise`]d each time it is shown, because the person who reads a request at night must see that there
//! was something, and must not be able to tap it.

use std::fmt;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

/// Stands where a control or direction character was, so that a reader sees that there was something.
pub const REPLACEMENT: char = '\u{FFFD}';

/// Stands where a `<` was that began a tag or a mention.
const HARMLESS_BRACKET: char = '‹';

/// How many combining marks may follow each other. Living languages need three; a pile of them covers the lines above.
const MAX_COMBINING_MARKS: usize = 4;

/// Schemes that mail programs and telephones turn into links although no `//` follows.
const SCHEMES_WITHOUT_SLASHES: [&str; 17] = [
    "about",
    "callto",
    "data",
    "facetime",
    "file",
    "geo",
    "intent",
    "javascript",
    "magnet",
    "mailto",
    "maps",
    "sip",
    "sips",
    "sms",
    "tel",
    "vbscript",
    "xmpp",
];

/// Why a character may not stand in a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// C0 and C1 controls, tab and NUL among them.
    Control,
    /// Line feed, carriage return, and Unicode's line and paragraph separators.
    LineBreak,
    /// Bidirectional controls: they make `gpj.exe` read as `exe.jpg`.
    Direction,
    /// Zero width, soft hyphens, tags, fillers: the name looks like another one.
    Invisible,
    /// A space that is not the plain one.
    Space,
    /// Private use: every font shows something else.
    PrivateUse,
    /// Not a character in the Unicode version this program knows.
    Unassigned,
}

impl fmt::Display for Refused {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Refused::Control => "control character",
            Refused::LineBreak => "line break",
            Refused::Direction => "text direction mark",
            Refused::Invisible => "invisible character",
            Refused::Space => "unusual space",
            Refused::PrivateUse => "private use character",
            Refused::Unassigned => "unassigned character",
        })
    }
}

/// Says why `character` may not stand in the name of a role, a target or a person; `None` if it may.
///
/// The plain space and every visible character of any script may: `PostgreSQL` allows them, and [`code_points`] makes
/// look-alikes visible.
#[must_use]
pub fn refused_in_names(character: char) -> Option<Refused> {
    if character.is_ascii_graphic() || character == ' ' {
        return None;
    }
    match character {
        '\n' | '\r' | '\u{B}' | '\u{C}' | '\u{85}' => return Some(Refused::LineBreak),
        // https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters
        '\u{61C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' => {
            return Some(Refused::Direction);
        }
        // Invisible, but letters, marks or symbols by category: joiner, fillers, vowel inherents, variation selectors,
        // blank Braille. https://www.unicode.org/reports/tr44/#Default_Ignorable_Code_Point
        '\u{34F}'
        | '\u{115F}'
        | '\u{1160}'
        | '\u{17B4}'
        | '\u{17B5}'
        | '\u{180B}'..='\u{180F}'
        | '\u{2800}'
        | '\u{3164}'
        | '\u{FE00}'..='\u{FE0F}'
        | '\u{FFA0}'
        | '\u{E0100}'..='\u{E01EF}' => return Some(Refused::Invisible),
        _ => {}
    }
    match character.general_category() {
        GeneralCategory::Control => Some(Refused::Control),
        GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator => {
            Some(Refused::LineBreak)
        }
        GeneralCategory::Format => Some(Refused::Invisible),
        GeneralCategory::SpaceSeparator => Some(Refused::Space),
        GeneralCategory::PrivateUse => Some(Refused::PrivateUse),
        GeneralCategory::Unassigned | GeneralCategory::Surrogate => Some(Refused::Unassigned),
        _ => None,
    }
}

/// Whether `character` may not stand in a name; [`refused_in_names`] says why.
#[must_use]
pub fn is_refused_in_names(character: char) -> bool {
    refused_in_names(character).is_some()
}

/// Writes a character the way Unicode does: `U+202E`.
#[must_use]
pub fn code_point(character: char) -> String {
    format!("U+{:04X}", u32::from(character))
}

/// Lists the characters of a name that are not ASCII, each once and in order, so that a Cyrillic `о` is told from an `o`;
/// `None` if there is none.
#[must_use]
pub fn code_points(name: &str) -> Option<String> {
    let mut foreign: Vec<char> = Vec::new();
    for character in name.chars().filter(|character| !character.is_ascii()) {
        if !foreign.contains(&character) {
            foreign.push(character);
        }
    }
    if foreign.is_empty() {
        return None;
    }
    let listed: Vec<String> = foreign.into_iter().map(code_point).collect();
    Some(listed.join(", "))
}

/// Whether a person typed exactly this name: surrounding white space and the way accents are composed do not count,
/// everything else does.
#[must_use]
pub fn same_name(typed: &str, name: &str) -> bool {
    typed.trim().nfc().eq(name.nfc())
}

/// Cuts a text to at most `max_chars` characters; the last one is `…` if something was cut.
#[must_use]
pub fn shorten(text: &str, max_chars: usize) -> String {
    if text.chars().nth(max_chars).is_none() {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(max_chars.saturating_sub(1)).collect();
    if max_chars > 0 {
        short.push('…');
    }
    short
}

/// What becomes of line breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Every run of white space becomes one space.
    OneLine,
    /// Line breaks stay as `\n`, with at most one empty line in a row.
    Lines,
}

/// Makes free text of a person harmless to show in a page, a message or a log.
///
/// The result is NFC; holds no character that [`refused_in_names`] refuses, except `\n` under [`Layout::Lines`]; holds
/// nothing that a mail program, a chat or a telephone turns into a link or a mention. Controls and direction marks
/// become [`REPLACEMENT`], zero-width characters vanish, white space is folded. Links stay readable:
/// `https://a.example/x` becomes `hxxps[:]//a[.]example/x`. Neutralising twice changes nothing.
///
/// It does not escape for HTML: that is the template's work.
#[must_use]
pub fn neutralise(text: &str, layout: Layout) -> String {
    let visible: String = visible_characters(text).nfc().collect();
    let folded = fold_white_space(&cap_combining_marks(&visible), layout);
    defang(&folded)
}

/// Whether [`neutralise`] changes more than white space: then the page says so beside the text.
#[must_use]
pub fn is_neutralised(text: &str) -> bool {
    let composed: String = text.nfc().collect();
    let as_written = fold_white_space(&composed, Layout::OneLine);
    neutralise(text, Layout::OneLine) != as_written
}

/// White space becomes `' '` or `'\n'`, hidden characters become [`REPLACEMENT`] or nothing.
fn visible_characters(text: &str) -> impl Iterator<Item = char> {
    let mut last = None;
    text.chars().filter_map(move |character| {
        let shown = match refused_in_names(character) {
            None => Some(character),
            Some(Refused::LineBreak) => Some('\n'),
            Some(Refused::Space) => Some(' '),
            Some(Refused::Control) if character == '\t' => Some(' '),
            Some(Refused::Invisible) => None,
            Some(
                Refused::Control | Refused::Direction | Refused::PrivateUse | Refused::Unassigned,
            ) => Some(REPLACEMENT),
        };
        // A thousand of them say no more than one.
        if shown == Some(REPLACEMENT) && last == shown {
            return None;
        }
        last = shown.or(last);
        shown
    })
}

/// Drops combining marks beyond [`MAX_COMBINING_MARKS`] in a row.
fn cap_combining_marks(text: &str) -> String {
    let mut n_marks = 0;
    text.chars()
        .filter(|character| {
            n_marks = if is_combining_mark(*character) {
                n_marks + 1
            } else {
                0
            };
            n_marks <= MAX_COMBINING_MARKS
        })
        .collect()
}

/// Folds runs of white space and trims both ends.
fn fold_white_space(text: &str, layout: Layout) -> String {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    match layout {
        Layout::OneLine => words(text),
        Layout::Lines => {
            let mut lines: Vec<String> = Vec::new();
            for line in text.lines().map(words) {
                let after_empty_line = lines.last().is_none_or(String::is_empty);
                if !(line.is_empty() && after_empty_line) {
                    lines.push(line);
                }
            }
            while lines.last().is_some_and(String::is_empty) {
                lines.pop();
            }
            lines.join("\n")
        }
    }
}

/// Breaks everything that programs turn into links or mentions, word by word.
fn defang(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for piece in text.split_inclusive([' ', '\n']) {
        defang_word(piece, &mut out);
    }
    out
}

fn defang_word(word: &str, out: &mut String) {
    let characters: Vec<char> = word.chars().collect();
    let numeric_host = has_numeric_host(word);
    for (index, &character) in characters.iter().enumerate() {
        let before = index.checked_sub(1).map(|before| characters[before]);
        let after = characters.get(index + 1).copied();
        match character {
            ':' if ends_with_scheme(&characters[..index], &characters[index + 1..]) => {
                replace_http(out);
                out.push_str("[:]");
            }
            '.' | '．' | '｡' | '。' | '․'
                if joins_host_labels(character, before, &characters[index + 1..])
                    || after_www(&characters[..index]) && is_word(after)
                    || numeric_host && both_digits(before, after) =>
            {
                out.push('[');
                out.push(character);
                out.push(']');
            }
            '@' | '＠' if is_word(before) && is_word(after) => out.push_str("[at]"),
            // Slack's `<!channel>`, `<@U1>` and `<url|text>`, and everything that looks like a tag. Comparisons stay.
            '<' if after.is_some_and(|after| {
                after.is_alphabetic() || matches!(after, '!' | '@' | '#' | '/' | '?')
            }) =>
            {
                out.push(HARMLESS_BRACKET);
            }
            other => out.push(other),
        }
    }
}

/// Whether the colon between these is the colon of a link: `word://`, or a scheme known to work without slashes.
fn ends_with_scheme(before: &[char], after: &[char]) -> bool {
    if after.starts_with(&['/', '/']) {
        return true;
    }
    let scheme: String = before
        .iter()
        .rev()
        .take_while(|character| character.is_ascii_alphanumeric())
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .map(char::to_ascii_lowercase)
        .collect();
    is_word(after.first().copied()) && SCHEMES_WITHOUT_SLASHES.contains(&scheme.as_str())
}

/// Turns a written `http` or `https` at the end of `out` into `hxxp` or `hxxps`.
fn replace_http(out: &mut String) {
    for (scheme, harmless) in [("https", "hxxps"), ("http", "hxxp")] {
        let Some(at) = out.len().checked_sub(scheme.len()) else {
            continue;
        };
        if out
            .get(at..)
            .is_some_and(|end| end.eq_ignore_ascii_case(scheme))
        {
            out.replace_range(at.., harmless);
            return;
        }
    }
}

/// Whether this dot could stand between the labels of a host name: something before it, and after it a label of at
/// least two characters that starts with a letter, as every top-level domain does. `v1.2` and `e.g.` are left alone.
fn joins_host_labels(dot: char, before: Option<char>, after: &[char]) -> bool {
    let Some(before) = before else { return false };
    // An ideographic full stop ends a sentence, unless it stands between Latin letters.
    let label_character = |character: char| match dot {
        '.' => {
            let divides = character.is_ascii_punctuation() && character != '-'
                || character == HARMLESS_BRACKET;
            !character.is_whitespace() && !divides
        }
        _ => character.is_ascii_alphanumeric(),
    };
    let starts_with_letter = after
        .first()
        .is_some_and(|first| first.is_alphabetic() && label_character(*first));
    let goes_on = after
        .get(1)
        .is_some_and(|second| label_character(*second) || *second == '-');
    (label_character(before) || before == '_') && starts_with_letter && goes_on
}

/// Whether these characters end with `www`: then programs make a link of whatever follows the dot.
fn after_www(before: &[char]) -> bool {
    before.len() >= 3
        && before[before.len() - 3..]
            .iter()
            .all(|it| it.eq_ignore_ascii_case(&'w'))
}

/// Whether a word holds an IPv4 address, with or without port or path.
fn has_numeric_host(word: &str) -> bool {
    word.split(|character: char| !character.is_ascii_digit() && character != '.')
        .any(|part| {
            let labels: Vec<&str> = part.trim_matches('.').split('.').collect();
            labels.len() == 4 && labels.iter().all(|label| (1..=3).contains(&label.len()))
        })
}

fn both_digits(before: Option<char>, after: Option<char>) -> bool {
    let digit = |character: Option<char>| character.is_some_and(|it| it.is_ascii_digit());
    digit(before) && digit(after)
}

fn is_word(character: Option<char>) -> bool {
    character.is_some_and(char::is_alphanumeric)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Write as _;

    fn check(written: &str, shown: &str) {
        assert_eq!(neutralise(written, Layout::OneLine), shown);
    }

    #[test]
    fn ordinary_text_stays() {
        for text in [
            "Fix the stuck migration, see ticket OPS-123 (rows where id < 5 and n > 3).",
            "Version 1.2.3, about 10.5 %, at 10:30, e.g. this; i.e. that...",
            "本番の注文を直す。理由は夜間バッチの失敗。",
            "Änderung für Zoë – 50 € & mehr",
            "שלום עולם",
            "C:\\temp and a/b and key: value and a::b",
        ] {
            check(text, text);
            assert!(!is_neutralised(text), "{text}");
        }
    }

    #[test]
    fn links_are_defanged_and_stay_readable() {
        check(
            "see https://evil.example/approve?x=1",
            "see hxxps[:]//evil[.]example/approve?x=1",
        );
        check("HTTP://EVIL.EXAMPLE", "hxxp[:]//EVIL[.]EXAMPLE");
        check("www.evil.example", "www[.]evil[.]example");
        check("WWW.1", "WWW[.]1");
        check("evil.example/approve", "evil[.]example/approve");
        check("(evil.co.jp)", "(evil[.]co[.]jp)");
        check("mailto:a@b.example", "mailto[:]a[at]b[.]example");
        check("javascript:alert(1)", "javascript[:]alert(1)");
        check("tel:0312345678", "tel[:]0312345678");
        check("slack://channel?id=1", "slack[:]//channel?id=1");
        check("http://127.0.0.1:8080/x", "hxxp[:]//127[.]0[.]0[.]1:8080/x");
        check("10.0.0.1/approve", "10[.]0[.]0[.]1/approve");
        check("xn--80ak6aa92e.com", "xn--80ak6aa92e[.]com");
        check("пример.рф", "пример[.]рф");
        check(
            "evil。com evil．com evil｡com",
            "evil[。]com evil[．]com evil[｡]com",
        );
    }

    #[test]
    fn hidden_characters_do_not_hide_a_link() {
        check(
            "ht\u{200B}tp://e\u{AD}vil.example",
            "hxxp[:]//evil[.]example",
        );
        check("evil.\u{2060}example", "evil[.]example");
    }

    #[test]
    fn chat_markup_is_broken() {
        check("<!channel> <@U024BE7LH>", "‹!channel> ‹@U024BE7LH>");
        check(
            "<https://evil.example|Approve>",
            "‹hxxps[:]//evil[.]example|Approve>",
        );
        check(
            "[Approve](https://evil.example)",
            "[Approve](hxxps[:]//evil[.]example)",
        );
    }

    #[test]
    fn controls_and_direction_marks_are_replaced_visibly() {
        check("a\0b\u{7}c\u{9B}31m", "a\u{FFFD}b\u{FFFD}c\u{FFFD}31m");
        check(
            "\u{202E}txet\u{202C} \u{2066}x\u{2069}",
            "\u{FFFD}txet\u{FFFD} \u{FFFD}x\u{FFFD}",
        );
        check(&"\0".repeat(1000), "\u{FFFD}");
        assert!(is_neutralised("a\u{202E}b"));
    }

    #[test]
    fn line_breaks_fold_or_stay() {
        let text = "\r\none\r\n\r\n\r\n\n two  words\t\u{2028}three\u{85}four\n\n";
        check(text, "one two words three four");
        assert_eq!(
            neutralise(text, Layout::Lines),
            "one\n\ntwo words\nthree\nfour"
        );
        check(
            "reason\r\nBcc: all@corp.example",
            "reason Bcc: all[at]corp[.]example",
        );
    }

    #[test]
    fn piles_of_combining_marks_are_cut() {
        let pile = format!("z{}", "\u{302}\u{323}".repeat(50));
        assert!(neutralise(&pile, Layout::OneLine).chars().count() <= 6);
    }

    #[test]
    fn a_hundred_kilobytes_are_no_matter() {
        for seed in [
            "a.b",
            "http://",
            "<!x> ",
            "\u{202E}a",
            "1.",
            "@a",
            "e\u{301}",
            ":",
        ] {
            let long = seed.repeat(100_000 / seed.len());
            let shown = neutralise(&long, Layout::Lines);
            assert!(shown.len() <= long.len() * 3);
            assert_eq!(
                shorten(&shown, 500).chars().count().min(501),
                shorten(&shown, 500).chars().count()
            );
        }
    }

    #[test]
    fn shortening_counts_characters() {
        assert_eq!(shorten("äöü", 3), "äöü");
        assert_eq!(shorten("äöüß", 3), "äö…");
        assert_eq!(shorten("ab", 1), "…");
        assert_eq!(shorten("ab", 0), "");
        assert_eq!(shorten("", 0), "");
    }

    #[test]
    fn names_refuse_what_cannot_be_seen() {
        for (character, why) in [
            ('\0', Refused::Control),
            ('\t', Refused::Control),
            ('\u{9F}', Refused::Control),
            ('\n', Refused::LineBreak),
            ('\u{2028}', Refused::LineBreak),
            ('\u{2029}', Refused::LineBreak),
            ('\u{202A}', Refused::Direction),
            ('\u{202E}', Refused::Direction),
            ('\u{2066}', Refused::Direction),
            ('\u{2069}', Refused::Direction),
            ('\u{200E}', Refused::Direction),
            ('\u{200F}', Refused::Direction),
            ('\u{61C}', Refused::Direction),
            ('\u{200B}', Refused::Invisible),
            ('\u{200D}', Refused::Invisible),
            ('\u{FEFF}', Refused::Invisible),
            ('\u{AD}', Refused::Invisible),
            ('\u{3164}', Refused::Invisible),
            ('\u{FE0F}', Refused::Invisible),
            ('\u{E0041}', Refused::Invisible),
            ('\u{A0}', Refused::Space),
            ('\u{3000}', Refused::Space),
            ('\u{E000}', Refused::PrivateUse),
            ('\u{10FFFD}', Refused::PrivateUse),
            ('\u{378}', Refused::Unassigned),
            ('\u{FFFF}', Refused::Unassigned),
        ] {
            assert_eq!(
                refused_in_names(character),
                Some(why),
                "{}",
                code_point(character)
            );
        }
        for character in [
            'a', 'Z', '_', '-', '"', '\'', ' ', '\\', 'é', 'о', '役', '😀',
        ] {
            assert_eq!(
                refused_in_names(character),
                None,
                "{}",
                code_point(character)
            );
        }
    }

    #[test]
    fn look_alikes_are_spelt_out() {
        assert_eq!(code_points("role"), None);
        assert_eq!(code_points("rоle_о").as_deref(), Some("U+043E"));
        assert_eq!(code_points("rоlе").as_deref(), Some("U+043E, U+0435"));
        assert_eq!(code_points("😀").as_deref(), Some("U+1F600"));
    }

    #[test]
    fn the_typed_name_must_be_the_name() {
        assert!(same_name(" breakglass\n", "breakglass"));
        assert!(same_name("re\u{301}seau", "réseau"));
        for typed in ["", "Breakglass", "break glass", "breakglas", "brеakglass"] {
            assert!(!same_name(typed, "breakglass"), "{typed}");
        }
    }

    /// Pieces that tend to build links, mentions and hidden text when they meet.
    fn hostile() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            any::<char>().prop_map(String::from),
            prop::sample::select(vec![
                "http",
                "https",
                ":",
                "//",
                "/",
                "www",
                ".",
                "com",
                "a",
                "1",
                "127",
                "@",
                "<",
                ">",
                "!",
                "mailto",
                "tel",
                "javascript",
                "\u{200B}",
                "\u{202E}",
                "\r\n",
                "\n",
                " ",
                "\0",
                "\u{301}",
                "[",
                "]",
                "。",
                "．",
                "xn--",
                "|",
                "-",
                "_",
                "é",
                "\u{212A}",
                "\u{37E}",
                "\u{E0041}",
                "рф",
            ])
            .prop_map(str::to_owned),
        ];
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    #[test]
    fn a_bracket_made_harmless_divides_as_it_did_before() {
        for text in ["®.a<a", "¡.A<http"] {
            let once = neutralise(text, Layout::OneLine);
            assert_eq!(neutralise(&once, Layout::OneLine), once, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_hidden_and_nothing_live_is_left(text in hostile()) {
            for layout in [Layout::OneLine, Layout::Lines] {
                let shown = neutralise(&text, layout);
                for character in shown.chars() {
                    let allowed = layout == Layout::Lines && character == '\n';
                    prop_assert!(allowed || refused_in_names(character).is_none(), "{:?} in {shown:?}", character);
                }
                prop_assert!(shown.nfc().eq(shown.chars()), "not NFC: {shown:?}");
                prop_assert!(!shown.contains("://"), "{shown:?}");
                let lower = shown.to_ascii_lowercase();
                for live in ["www.a", "www.1", "mailto:a", "tel:1", "javascript:a", "<!", "<@", "<a"] {
                    prop_assert!(!lower.contains(live), "{live} in {shown:?}");
                }
                let characters: Vec<char> = shown.chars().collect();
                for around in characters.windows(4) {
                    let host = around[0].is_alphanumeric()
                        && around[1] == '.'
                        && around[2].is_ascii_alphabetic()
                        && around[3].is_ascii_alphabetic();
                    prop_assert!(!host, "{shown:?}");
                    let mailbox = around[0].is_alphanumeric() && around[1] == '@' && around[2].is_alphanumeric();
                    prop_assert!(!mailbox, "{shown:?}");
                }
            }
        }

        #[test]
        fn neutralising_twice_changes_nothing(text in hostile()) {
            for layout in [Layout::OneLine, Layout::Lines] {
                let once = neutralise(&text, layout);
                prop_assert_eq!(neutralise(&once, layout), once);
            }
        }

        #[test]
        fn shortening_keeps_the_limit_and_the_beginning(text in ".{0,40}", max_chars in 0_usize..40) {
            let short = shorten(&text, max_chars);
            prop_assert!(short.chars().count() <= max_chars);
            prop_assert!(text.starts_with(short.trim_end_matches('…')));
        }

        #[test]
        fn code_points_name_every_foreign_character(name in ".{0,20}") {
            let mut expected = String::new();
            for character in name.chars().filter(|it| !it.is_ascii()) {
                let point = code_point(character);
                if !expected.split(", ").any(|it| it == point) {
                    let separator = if expected.is_empty() { "" } else { ", " };
                    write!(expected, "{separator}{point}").unwrap();
                }
            }
            prop_assert_eq!(code_points(&name).unwrap_or_default(), expected);
        }
    }
}
