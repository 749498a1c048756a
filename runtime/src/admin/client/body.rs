//! What a request carries: a document, or a file that is read as it is sent.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame, SizeHint};

/// Read from the file at a time.
const CHUNK_BYTES: u64 = 64 * 1024;

/// A document or a file.
pub(super) type RequestBody = Either<Full<Bytes>, FileBody>;

/// A file as a body: of the length it had when it was opened.
pub(super) struct FileBody {
    file: File,
    sent: u64,
    total: u64,
    progress: Box<dyn FnMut(u64, u64) + Send>,
}

impl FileBody {
    pub(super) fn open(path: &Path, progress: Box<dyn FnMut(u64, u64) + Send>) -> io::Result<FileBody> {
        // Looked at before: to open a pipe is to wait for who writes to it.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        let file = File::open(path)?;
        let found = file.metadata()?;
        Ok(FileBody { file, sent: 0, total: found.len(), progress })
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let left = self.total - self.sent;
        if left == 0 {
            return Poll::Ready(None);
        }
        let mut chunk = vec![0; usize::try_from(left.min(CHUNK_BYTES)).unwrap_or(usize::MAX)];
        if let Err(error) = self.file.read_exact(&mut chunk) {
            return Poll::Ready(Some(Err(error)));
        }
        let this = &mut *self;
        this.sent += chunk.len() as u64;
        (this.progress)(this.sent, this.total);
        Poll::Ready(Some(Ok(Frame::data(chunk.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.sent == self.total
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.total - self.sent)
    }
}
