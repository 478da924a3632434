//! Places in lists, opaque to merchants: base64url of what the journal needs to go on, checked
//! when it comes back. A cursor holds nothing that the list itself does not show.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use interlock_journal::Cursor;

/// Longer texts are no cursors.
const LENGTH_MAX: usize = 128;
/// What the cursors of each list begin with, so that none fits another list.
const PAYMENTS: &str = "p1";
const EVENTS: &str = "e1";

/// Where a page of payments ended.
pub fn of_payment(cursor: &Cursor) -> String {
    URL_SAFE_NO_PAD.encode(format!("{PAYMENTS}.{}.{}", cursor.created_ms, cursor.id))
}

/// Where the next page of payments begins.
pub fn to_payment(text: &str) -> Option<Cursor> {
    let inner = inner(text, PAYMENTS)?;
    let (created_ms, id) = inner.split_once('.')?;
    let created_ms = created_ms.parse().ok().filter(|ms| *ms >= 0)?;
    let number = id.strip_prefix("pay_")?;
    let fits = number.len() == 26 && number.bytes().all(|b| b.is_ascii_alphanumeric());
    fits.then(|| Cursor { created_ms, id: id.to_owned() })
}

/// Where a page of events ended.
pub fn of_position(position: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("{EVENTS}.{position}"))
}

/// Where the next page of events begins.
pub fn to_position(text: &str) -> Option<u64> {
    let inner = inner(text, EVENTS)?;
    inner.bytes().all(|b| b.is_ascii_digit()).then(|| inner.parse().ok())?
}

fn inner(text: &str, kind: &str) -> Option<String> {
    if text.len() > LENGTH_MAX {
        return None;
    }
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    Some(text.strip_prefix(kind)?.strip_prefix('.')?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_cursor_is_refused_or_is_the_one_that_it_says() {
        let mut read = 0;
        crate::mutator::each(&["tests/corpora/cursor"], 2_000, |bytes| {
            // As it may come from outside, and what stands in a good one.
            let outer = String::from_utf8_lossy(bytes).into_owned();
            let inner = URL_SAFE_NO_PAD.encode([b"p1.", bytes].concat());
            for text in [outer, inner] {
                let Some(found) = to_payment(&text) else { continue };
                read += 1;
                assert!(found.created_ms >= 0 && found.id.len() == 30, "{text}");
                assert_eq!(to_payment(&of_payment(&found)), Some(found), "{text}");
            }
        });
        assert!(read > 0);
    }

    #[test]
    fn a_cursor_comes_back_as_it_went() {
        let cursor =
            Cursor { created_ms: 1_700_000_000_000, id: format!("pay_{}", "A".repeat(26)) };
        let text = of_payment(&cursor);
        assert!(!text.contains("pay_") && !text.contains(['=', '+', '/', '.']));
        assert_eq!(to_payment(&text), Some(cursor));
        assert_eq!(to_position(&of_position(u64::MAX)), Some(u64::MAX));
    }

    #[test]
    fn what_is_no_cursor_of_this_list_is_refused() {
        let of = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let id = format!("pay_{}", "A".repeat(26));
        for bad in [
            String::new(),
            "evt_1".to_owned(),
            format!("1.{id}"),
            of(&format!("1.{id}")),
            of(&format!("p1.-1.{id}")),
            of("p1.1.pay_short"),
            of(&format!("p1.1.{id}\0")),
            of_position(7),
            "A".repeat(LENGTH_MAX + 1),
        ] {
            assert_eq!(to_payment(&bad), None, "{bad}");
        }
        for bad in [of("e1."), of("e1.+1"), of("e1.99999999999999999999"), of("p1.1"), of("7")] {
            assert_eq!(to_position(&bad), None, "{bad}");
        }
    }
}
