//! Reports of runs that have to be equal.

use serde_json::Value;

/// That two reports are equal without what either of them marks, as a program outside would find out.
#[track_caller]
pub(crate) fn assert_equal(first: &Value, second: &Value) {
    let marks = [first, second].into_iter().flat_map(|report| report["volatile"].as_array().unwrap());
    let marks: Vec<&str> = marks.map(|mark| mark.as_str().unwrap()).collect();
    let [first, second] = [first, second].map(|report| {
        let mut rest = report.clone();
        for (parent, key) in marks.iter().map(|mark| mark.rsplit_once('/').unwrap()) {
            rest.pointer_mut(parent).and_then(|parent| parent.as_object_mut()?.remove(key));
        }
        rest
    });
    let mut stacks = first["hits"].as_array().unwrap().iter().map(|hit| hit["frames"].as_array().unwrap().len());
    assert!(stacks.any(|frames| frames > 20), "what is not marked is still there");
    assert_eq!(first.to_string(), second.to_string());
}
