//! Zstandard: an archive is one frame after the other, each with a checksum, which has to be right. Frames that hold no
//! data, as pzstd writes them, are passed over.

use std::io::{BufRead, Error, Read, Result, copy, sink};

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// What is in all frames.
pub(super) struct Frames<R: BufRead> {
    reader: R,
    /// Of the frame that is read; none after the last.
    decoder: Option<FrameDecoder>,
}

impl<R: BufRead> Frames<R> {
    /// Begins with the first frame.
    ///
    /// # Errors
    /// There is none.
    pub(super) fn new(reader: R) -> Result<Frames<R>> {
        let mut frames = Frames { reader, decoder: None };
        frames.begin()?;
        frames.decoder.is_some().then_some(frames).ok_or_else(|| Error::other("it has no data"))
    }

    /// Begins the next frame that holds data, if there is one.
    fn begin(&mut self) -> Result<()> {
        self.decoder = None;
        while !self.reader.fill_buf()?.is_empty() {
            let mut decoder = FrameDecoder::new();
            match decoder.init(&mut self.reader) {
                Ok(()) => {
                    self.decoder = Some(decoder);
                    break;
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if copy(&mut (&mut self.reader).take(length), &mut sink())? < length {
                        return Err(Error::other("it ends in the middle of a frame"));
                    }
                }
                Err(error) => return Err(Error::other(error)),
            }
        }
        Ok(())
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            while decoder.can_collect() < buffer.len() && !decoder.is_finished() {
                let wanted = BlockDecodingStrategy::UptoBytes(buffer.len() - decoder.can_collect());
                decoder.decode_blocks(&mut self.reader, wanted).map_err(Error::other)?;
            }
            let count = decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let noted = decoder.get_checksum_from_data();
            if noted.is_some() && noted != decoder.get_calculated_checksum() {
                return Err(Error::other("its checksum is wrong"));
            }
            self.begin()?;
        }
        Ok(0)
    }
}
