//! Which farm is taken.

use super::super::catalogue::{Catalogue, set};
use super::*;
use crate::common::inputs::{Entry, EntryKind};
use crate::remote::store::Store;

struct Place {
    directory: tempfile::TempDir,
    store: Store,
    catalogue: Catalogue,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&directory.path().join("store"), 1 << 20).unwrap();
        Place { directory, store, catalogue: Catalogue::default() }
    }

    fn pool(&self, max: usize) -> Pool {
        let root = self.directory.path().join("farms");
        std::fs::create_dir(&root).unwrap();
        Pool::new(&root, max)
    }

    /// Folders `/NAME/0` to `/NAME/9`, but for one.
    fn set(&self, name: &str, without: usize) -> Set {
        let numbers = (0..10).filter(|number| *number != without);
        let folder =
            |number| Entry { path: format!("/{name}/{number}").as_str().into(), kind: EntryKind::Folder };
        set(numbers.map(|number| self.catalogue.know(folder(number))).collect())
    }

    fn used(&self, pool: &Pool, set: &Set) -> PathBuf {
        let mut farm = pool.take(set).unwrap();
        farm.hold(set, &self.store).unwrap();
        let path = farm.path().parent().unwrap().to_owned();
        pool.give(farm);
        path
    }
}

#[test]
fn a_job_gets_the_farm_that_is_nearest() {
    let place = Place::new();
    let pool = place.pool(10);
    let one = place.used(&pool, &place.set("one", 3));
    let other = place.used(&pool, &place.set("other", 3));
    assert_ne!(one, other, "a project of its own has a farm of its own");
    assert_eq!(place.used(&pool, &place.set("one", 4)), one);
    assert_eq!(place.used(&pool, &place.set("other", 4)), other);
}

#[test]
fn what_is_kept_to_save_time_goes_when_the_disk_is_short() {
    let place = Place::new();
    let pool = place.pool(10);
    let set = place.set("one", 3);
    let idle = place.used(&pool, &place.set("other", 3));
    let held = pool.take(&set).unwrap();
    pool.forsake();
    assert!(!idle.exists() && held.path().exists());
    pool.give(held);
    assert_ne!(place.used(&pool, &place.set("other", 3)), idle);
}

/// They kept on the disk what the store had let go of.
#[test]
fn idle_farms_go_when_files_went_out_of_the_store() {
    let place = Place::new();
    let pool = place.pool(10);
    let set = place.set("one", 3);
    pool.shed(0);
    let idle = place.used(&pool, &set);
    pool.shed(0);
    assert!(idle.exists());
    pool.shed(1);
    assert!(!idle.exists());
    let idle = place.used(&pool, &set);
    pool.shed(1);
    assert!(idle.exists());
}

#[test]
fn a_farm_in_use_is_nobody_elses() {
    let place = Place::new();
    let pool = place.pool(10);
    let set = place.set("one", 3);
    place.used(&pool, &set);
    let (first, second) = (pool.take(&set).unwrap(), pool.take(&set).unwrap());
    assert_ne!(first.path(), second.path());
}

#[test]
fn there_are_no_more_farms_than_may_be_but_each_job_has_one() {
    let place = Place::new();
    let pool = place.pool(2);
    for name in ["a", "b", "c", "d"] {
        place.used(&pool, &place.set(name, 0));
    }
    let left = || std::fs::read_dir(place.directory.path().join("farms")).unwrap().count();
    assert_eq!(left(), 2);
    let farms: Vec<_> = ["a", "b", "c"].map(|name| pool.take(&place.set(name, 0)).unwrap()).into();
    assert_eq!(left(), 3);
    farms.into_iter().for_each(|farm| pool.give(farm));
    assert_eq!(left(), 2);
    let set = place.set("a", 0);
    let farm = pool.take(&set).unwrap();
    pool.discard(farm);
    assert_eq!(left(), 1);
}

#[test]
fn a_farm_that_was_removed_is_not_used_and_another_one_is_made() {
    let place = Place::new();
    let pool = place.pool(2);
    let first = place.used(&pool, &place.set("one", 3));
    std::fs::remove_dir_all(&first).unwrap();
    let second = place.used(&pool, &place.set("one", 3));
    assert_ne!(first, second);
    std::fs::remove_dir_all(place.directory.path().join("farms")).unwrap();
    pool.mend().unwrap();
    let third = place.used(&pool, &place.set("one", 3));
    assert_eq!(place.used(&pool, &place.set("one", 3)), third);
    assert_eq!(pool.state().count, 1);
}
