//! A list, page by page.

use dure_types::Page;
use futures_util::Stream;

use crate::ClientError;

/// Everything of a list, asking for the next page when the one before was taken.
pub fn pages<T, F, Fetch>(fetch: F) -> impl Stream<Item = Result<T, ClientError>> + Send
where
    T: Send,
    F: Fn(Option<String>) -> Fetch + Send,
    Fetch: Future<Output = Result<Page<T>, ClientError>> + Send,
{
    async_stream::try_stream! {
        let mut cursor = None;
        loop {
            let page = fetch(cursor.clone()).await?;
            for item in page.items {
                yield item;
            }
            // A cursor that does not move would go round for ever.
            if page.next.is_none() || page.next == cursor {
                break;
            }
            cursor = page.next;
        }
    }
}
