//! Zstandard: an archive is one frame after the other, each with a checksum, which has to be right.

use std::io::{BufRead, Error, Read, Result};

use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// What is in all frames.
pub(super) struct Frames<R: BufRead> {
    /// The one that is read; none after the last.
    frame: Option<StreamingDecoder<R, FrameDecoder>>,
}

impl<R: BufRead> Frames<R> {
    /// Begins with the first frame.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn new(reader: R) -> Result<Frames<R>> {
        Ok(Frames { frame: Some(StreamingDecoder::new(reader).map_err(Error::other)?) })
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while let Some(mut frame) = self.frame.take() {
            let count = frame.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                self.frame = Some(frame);
                return Ok(count);
            }
            let (mut rest, decoder) = frame.into_parts();
            let noted = decoder.get_checksum_from_data();
            if noted.is_some() && noted != decoder.get_calculated_checksum() {
                return Err(Error::other("its checksum is wrong"));
            }
            if !rest.fill_buf()?.is_empty() {
                self.frame = Frames::new(rest)?.frame;
            }
        }
        Ok(0)
    }
}
