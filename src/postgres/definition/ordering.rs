// SPDX-License-Identifier: MPL-2.0

//! Orders things by what they need.

use std::collections::{BTreeMap, BTreeSet};

/// Orders things by their keys, but each after the things that it needs. Ignores needs outside the map.
///
/// # Errors
/// The remaining things, if they need each other in a circle.
pub(super) fn ordered<K: Ord + Clone>(needs: &BTreeMap<K, BTreeSet<K>>) -> Result<Vec<K>, Vec<K>> {
    let mut open: BTreeMap<&K, usize> = needs.keys().map(|key| (key, 0)).collect();
    let mut waiting: BTreeMap<&K, Vec<&K>> = BTreeMap::new();
    for (key, need) in needs.iter().flat_map(|(key, all)| all.iter().map(move |need| (key, need))) {
        if need != key && needs.contains_key(need) {
            *open.entry(key).or_default() += 1;
            waiting.entry(need).or_default().push(key);
        }
    }
    let mut ready: BTreeSet<&K> = open.iter().filter(|(_, count)| **count == 0).map(|(key, _)| *key).collect();
    let mut order = Vec::with_capacity(needs.len());
    while let Some(key) = ready.pop_first() {
        order.push(key.clone());
        open.remove(key);
        for waits in waiting.remove(key).unwrap_or_default() {
            if let Some(count) = open.get_mut(waits) {
                *count -= 1;
                if *count == 0 {
                    ready.insert(waits);
                }
            }
        }
    }
    if open.is_empty() { Ok(order) } else { Err(open.into_keys().cloned().collect()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each word is a thing, followed by what it needs.
    fn order(text: &str) -> Result<String, String> {
        let needs = text.split_whitespace().filter_map(|word| {
            let mut letters = word.chars();
            Some((letters.next()?, letters.collect()))
        });
        let joined = |letters: Vec<char>| letters.into_iter().collect::<String>();
        ordered(&needs.collect()).map(joined).map_err(joined)
    }

    #[test]
    fn what_is_needed_comes_first_and_else_the_order_is_that_of_the_keys() {
        assert_eq!(order("c b a"), Ok("abc".to_owned()));
        assert_eq!(order("ac b c"), Ok("bca".to_owned()));
        assert_eq!(order("az ba"), Ok("ab".to_owned()), "z is there already");
        assert_eq!(order("aa b"), Ok("ab".to_owned()), "nothing needs itself");
        assert_eq!(order("ab bc ca d e"), Err("abc".to_owned()));
    }
}
