//! A series of numbers in one line of block characters.

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Where a value is no number.
const HOLE: char = '·';

/// At most `width` characters; where there are more values, each character is the last of its share, so
/// that the end of the line is always the newest value.
pub fn sparkline(values: &[f64], width: usize) -> String {
    let cells = width.min(values.len());
    let picked: Vec<f64> = (1..=cells).map(|cell| values[cell * values.len() / cells - 1]).collect();
    let finite = || picked.iter().copied().filter(|value| value.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    picked
        .iter()
        .map(|value| match *value {
            value if value.is_nan() => HOLE,
            f64::INFINITY => BLOCKS[7],
            f64::NEG_INFINITY => BLOCKS[0],
            // A level line lies in the middle.
            _ if low == high => BLOCKS[3],
            // Divided before it is subtracted, because the difference of two huge numbers is infinite.
            value => {
                let share = (value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
                BLOCKS[(share * 7.0).round().clamp(0.0, 7.0) as usize]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rises_with_the_values_and_ends_with_the_newest() {
        assert_eq!(sparkline(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 12), "▁▂▃▄▅▆▇█");
        let many: Vec<f64> = (0..1000).map(f64::from).collect();
        let line = sparkline(&many, 10);
        assert_eq!(line.chars().count(), 10);
        assert!(line.ends_with('█'));
    }

    #[test]
    fn odd_values_do_not_break_it() {
        assert_eq!(sparkline(&[], 10), "");
        assert_eq!(sparkline(&[1.0], 0), "");
        assert_eq!(sparkline(&[2.0, 2.0], 10), "▄▄");
        assert_eq!(sparkline(&[0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1.0], 10), "▁·█▁█");
        assert_eq!(sparkline(&[f64::NAN], 10), "·");
        assert_eq!(sparkline(&[-f64::MAX, f64::MAX], 10), "▁█");
    }
}
