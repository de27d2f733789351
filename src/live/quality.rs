//! How good pictures are, by how fast viewers take them: pure.
//!
//! Looked at once in a while: what viewers took for a picture on the average. Those that are far
//! behind the fastest do not count; they get fewer pictures, and nobody else notices.

use std::time::Duration;

/// What is asked of Chromium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// Of the JPEG, 0 to 100.
    pub(super) quality: u8,
    /// Longest edge in pixels.
    pub(super) edge: u32,
}

/// The best one first.
const STEPS: [Step; 3] = [
    Step {
        quality: 80,
        edge: 1920,
    },
    Step {
        quality: 60,
        edge: 1280,
    },
    Step {
        quality: 40,
        edge: 960,
    },
];
/// Pictures that take longer are too good.
const SLOW: Duration = Duration::from_millis(150);
/// Ones that take less could be better.
const FAST: Duration = Duration::from_millis(60);
/// How often in a row they must have been fast.
const PATIENCE: u8 = 3;
/// A viewer that takes this many times as long as the fastest one does not keep up.
const BEHIND: u32 = 3;

/// The step in use.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quality {
    at: usize,
    fast: u8,
}

impl Quality {
    pub(super) fn step(&self) -> Step {
        STEPS[self.at]
    }

    /// What each viewer that took pictures has needed for one; whether the step is another now.
    pub(super) fn seen(&mut self, needed: &[Duration]) -> bool {
        let Some(fastest) = needed.iter().min() else {
            return false;
        };
        let bound = (*fastest).max(Duration::from_millis(10)) * BEHIND;
        let keeping_up = needed.iter().filter(|needed| **needed <= bound);
        let (sum, count) = keeping_up.fold((Duration::ZERO, 0), |(sum, count), needed| {
            (sum + *needed, count + 1)
        });
        let mean = sum / count;
        let before = self.at;
        self.fast = if mean < FAST { self.fast + 1 } else { 0 };
        if mean > SLOW {
            self.at = (self.at + 1).min(STEPS.len() - 1);
        } else if self.fast >= PATIENCE {
            self.fast = 0;
            self.at = self.at.saturating_sub(1);
        }
        self.at != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(list: &[u64]) -> Vec<Duration> {
        list.iter().map(|ms| Duration::from_millis(*ms)).collect()
    }

    #[test]
    fn slow_viewers_get_smaller_pictures_at_once_and_better_ones_with_patience() {
        let mut quality = Quality::default();
        assert_eq!(quality.step(), STEPS[0]);
        assert!(!quality.seen(&ms(&[])));
        assert!(!quality.seen(&ms(&[20])));
        for step in [1, 2, 2] {
            quality.seen(&ms(&[400, 500]));
            assert_eq!(quality.step(), STEPS[step]);
        }
        let better: Vec<bool> = (0..7).map(|_| quality.seen(&ms(&[20]))).collect();
        assert_eq!(better, [false, false, true, false, false, true, false]);
        assert_eq!(quality.step(), STEPS[0]);
    }

    #[test]
    fn one_that_does_not_keep_up_changes_nothing_for_the_others() {
        let mut quality = Quality::default();
        assert!(!quality.seen(&ms(&[30, 40, 5000])));
        assert!(!quality.seen(&ms(&[0, 9000])));
        assert_eq!(quality.step(), STEPS[0]);
    }
}
