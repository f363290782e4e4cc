//! Painting: three bytes a point, the same on every host.

use std::io::Write;

use crate::Outcome;
use crate::protocol::Picture;

/// A tile's points, line by line.
pub(crate) fn paint(picture: &Picture, tile: u32) -> Vec<u8> {
    let (left, top, width, height) = picture.place(tile);
    let mut points = Vec::with_capacity((width * height * 3) as usize);
    for y in top..top + height {
        for x in left..left + width {
            points.extend_from_slice(&point(picture, x, y));
        }
    }
    points
}

/// The colour of a point: how soon it leaves the circle of radius 2.
fn point(picture: &Picture, x: u32, y: u32) -> [u8; 3] {
    let scale = 3.2 / f64::from(picture.width.min(picture.height));
    let centred = |at: u32, size: u32| (f64::from(at) - f64::from(size) / 2.0) * scale;
    let (mut re, mut im) = (centred(x, picture.width), centred(y, picture.height));
    let mut steps = 0;
    while re * re + im * im <= 4.0 && steps < picture.depth {
        (re, im) = (re * re - im * im + picture.re, 2.0 * re * im + picture.im);
        steps += 1;
    }
    if steps == picture.depth {
        return [8, 8, 16];
    }
    let shade = |times: u32| u8::try_from(steps * times % 256).unwrap_or(u8::MAX);
    [shade(3), shade(7), 255 - shade(5)]
}

/// A picture put together from its tiles.
pub(crate) struct Canvas {
    picture: Picture,
    points: Vec<u8>,
}

impl Canvas {
    pub fn new(picture: Picture) -> Self {
        let bytes = picture.width as usize * picture.height as usize * 3;
        Self { picture, points: vec![0; bytes] }
    }

    /// Puts a tile in its place. False: it doesn't fit there.
    pub fn put(&mut self, tile: u32, points: &[u8]) -> bool {
        if tile >= self.picture.tiles() {
            return false;
        }
        let (left, top, width, height) = self.picture.place(tile);
        let line = width as usize * 3;
        if points.len() != line * height as usize {
            return false;
        }
        for (y, points) in (top..).zip(points.chunks_exact(line)) {
            let begin = (y as usize * self.picture.width as usize + left as usize) * 3;
            self.points[begin..begin + line].copy_from_slice(points);
        }
        true
    }

    /// Writes it as PNG.
    pub fn write(&self, to: impl Write) -> Outcome {
        let mut encoder = png::Encoder::new(to, self.picture.width, self.picture.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        Ok(encoder.write_header()?.write_image_data(&self.points)?)
    }
}
