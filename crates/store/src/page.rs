//! Cursors: the key of the last item of a page, so that what is inserted meanwhile moves nothing.

use dure_types::{Page, page::PageQuery};

use crate::StoreError;

pub(crate) fn bad_cursor() -> StoreError {
    StoreError::Invalid("the cursor is not one that this list gave".to_owned())
}

/// How many rows to ask for: one more than the page holds tells whether there is another.
pub(crate) fn fetch(limit: u32) -> i64 {
    i64::from(limit) + 1
}

pub(crate) fn limit(limit: Option<u32>) -> u32 {
    PageQuery { cursor: None, limit }.limit()
}

pub(crate) fn page<T>(mut items: Vec<T>, limit: u32, key: impl Fn(&T) -> String) -> Page<T> {
    let limit = limit as usize;
    if items.len() <= limit {
        return Page { items, next: None };
    }
    items.truncate(limit);
    let next = items.last().map(key);
    Page { items, next }
}
