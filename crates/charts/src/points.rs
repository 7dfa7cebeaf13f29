//! Lines of many points made into lines of few, and noisy ones into smooth ones.

/// A place: across, and upwards.
pub type Point = (f64, f64);

/// More than a chart has pixels for: a line of a long run is thinned out to so many points.
pub const MAX_POINTS: usize = 1000;

/// The points whose value is finite.
pub fn finite(mut points: Vec<Point>) -> Vec<Point> {
    points.retain(|(_, value)| value.is_finite());
    points
}

/// At most `most` means of finite neighbours, each at the last of them.
pub fn means(points: Vec<Point>, most: usize) -> Vec<Point> {
    let points = finite(points);
    let count = points.len().min(most);
    // Of lengths as equal as can be: a last part of a few points would stick out.
    let parts =
        (0..count).map(|part| &points[part * points.len() / count..(part + 1) * points.len() / count]);
    let mean = |part: &[Point]| {
        let sum: f64 = part.iter().map(|(_, value)| value).sum();
        Some((part.last()?.0, sum / part.len() as f64))
    };
    parts.filter_map(mean).collect()
}

/// At most `MAX_POINTS` of the points: of each stretch the least and the greatest, and the first and last of all.
pub fn decimate(points: &[Point]) -> Vec<Point> {
    let ([first, inner @ .., last], true) = (points, points.len() > MAX_POINTS) else {
        return points.to_vec();
    };
    let stretch = inner.len().div_ceil((MAX_POINTS - 2) / 2);
    let mut kept = vec![*first];
    for stretch in inner.chunks(stretch) {
        let values = || stretch.iter().enumerate().filter(|(_, (_, y))| y.is_finite());
        let least = values().min_by(|(_, (_, a)), (_, (_, b))| a.total_cmp(b));
        let greatest = values().max_by(|(_, (_, a)), (_, (_, b))| a.total_cmp(b));
        match (least, greatest) {
            (Some((a, _)), Some((b, _))) if a == b => kept.push(stretch[a]),
            (Some((a, _)), Some((b, _))) => kept.extend([stretch[a.min(b)], stretch[a.max(b)]]),
            // A gap stays one.
            _ => kept.push(stretch[0]),
        }
    }
    kept.push(*last);
    kept
}

/// The mean of each value and those around it, on both sides as far as there are any: so that the line does not lag
/// behind what it smooths.
pub fn smooth(points: &[Point]) -> Vec<Point> {
    let reach = points.len() / 40;
    let around = |at: usize| {
        let values = &points[at.saturating_sub(reach)..points.len().min(at + reach + 1)];
        let values = || values.iter().map(|(_, y)| *y).filter(|value| value.is_finite());
        // The mean of none is not finite either.
        values().sum::<f64>() / values().count() as f64
    };
    points.iter().enumerate().map(|(at, (x, _))| (*x, around(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thinned_line_keeps_its_first_last_least_and_greatest_point() {
        for count in [1001, 1999, 2048, 12_345] {
            let mut points: Vec<Point> = (0..count).map(|at| (at as f64, (at as f64 * 0.7).sin())).collect();
            let (least, greatest) = ((517.0, -3.0), (518.0, 4.0));
            (points[517], points[518]) = (least, greatest);
            points[100].1 = f64::NAN;
            let kept = decimate(&points);
            assert!(kept.len() <= MAX_POINTS, "{count}: {}", kept.len());
            assert!(kept.len() > MAX_POINTS / 3, "{count}: {}", kept.len());
            assert_eq!((kept[0], kept[kept.len() - 1]), (points[0], points[count - 1]));
            assert!(kept.contains(&least) && kept.contains(&greatest), "{count}");
            assert!(kept.is_sorted_by(|(a, _), (b, _)| a < b), "{count}");
        }
        let few: Vec<Point> = (0..1000).map(|at| (at as f64, 1.0)).collect();
        assert_eq!(decimate(&few), few, "a short line stays as it is");
    }

    #[test]
    fn smoothing_does_not_lag_and_evens_out_what_goes_up_and_down() {
        let straight: Vec<Point> = (0..200).map(|at| (at as f64, 2.0 * at as f64)).collect();
        assert_eq!(smooth(&straight)[5..195], straight[5..195]);
        let noisy: Vec<Point> = (0..200).map(|at| (at as f64, f64::from(at % 2))).collect();
        assert!(smooth(&noisy).iter().all(|(_, y)| (y - 0.5).abs() < 0.1));
        assert_eq!(smooth(&noisy[..20]), noisy[..20], "a few points stay as they are");
    }

    #[test]
    fn many_points_become_means() {
        let curve: Vec<Point> = (1..=1000).map(|step| (f64::from(step), f64::from(step % 2))).collect();
        let thin = means(curve, 120);
        assert!(thin.len() == 120 && thin.last().unwrap().0 == 1000.0, "{thin:?}");
        assert!(thin.iter().all(|(_, value)| (0.4..=0.6).contains(value)), "{thin:?}");
        assert_eq!(means(vec![(1.0, f64::NAN), (2.0, 1.0)], 120), [(2.0, 1.0)]);
    }
}
