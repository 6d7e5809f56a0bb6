//! What a store refuses to write and what it forgets: the same in each of them.

use super::*;

/// Each of these commits fails as a whole, and leaves what was there.
fn refuses(store: &dyn Store, records: &[Record], why: &str) {
    let before = store.load().unwrap();
    let error = store.commit(records).unwrap_err();
    assert!(matches!(error, StoreError::DoesNotFollow { .. }), "{why}: {error:?}");
    assert_eq!(store.load().unwrap(), before, "{why}");
}

#[test]
fn a_commit_that_fails_leaves_nothing_behind() {
    each_store(|store| {
        let (mut one, mut other) = (Author::new(1), Author::new(2));
        let genesis = one.next("");
        let [first, second, third] = [1, 2, 3].map(|number| one.next(&good(number)));
        let time = Record::NewestTime(Millis(START));
        refuses(store, std::slice::from_ref(&first), "a log begins with its genesis entry");
        store.commit(std::slice::from_ref(&genesis)).unwrap();
        refuses(store, &[time.clone(), first.clone(), genesis], "one seq is written once");
        refuses(store, &[other.next(""), second.clone()], "no seq is left out");
        refuses(store, &[first.clone(), time, third.clone()], "nor between two records");
        assert_eq!(store.entries(one.id, Seq(1), 1_000).unwrap(), []);
        assert_eq!(store.load().unwrap().newest_time, Millis::ZERO);
        store.commit(&[first, second, third]).unwrap();
        assert_eq!(store.load().unwrap().authors[&one.id].seq(), Seq(3));
    });
}

#[test]
fn a_record_whose_book_or_author_does_not_fit_its_entries_is_refused() {
    each_store(|store| {
        let mut author = Author::new(1);
        store.commit(&[author.next("")]).unwrap();
        let (first, second) = (author.next(&good(1)), author.next(&good(2)));
        let (Record::Entries { entries, .. }, Record::Entries { author, book, .. }) = (first, second) else {
            unreachable!()
        };
        let ahead = Record::Entries { author, entries: entries.clone(), book: book.clone() };
        refuses(store, &[ahead], "the book is an entry ahead");
        let empty = Record::Entries { author, entries: vec![], book: book.clone() };
        refuses(store, &[empty], "there is no entry");
        let strange = Record::Entries { author: Author::new(2).id, entries, book };
        refuses(store, &[strange], "the entries are another author's");
    });
}

#[test]
fn entries_of_one_record_carry_the_signature_on_the_last_of_them_only() {
    each_store(|store| {
        let mut author = Author::new(1);
        let mut all = vec![];
        let mut last = None;
        for number in 0..5 {
            let Record::Entries { entries, book, .. } = author.next(&good(number)) else { unreachable!() };
            all.extend(entries);
            last = Some(book);
        }
        store.commit(&[Record::Entries { author: author.id, entries: all, book: last.unwrap() }]).unwrap();
        let signed: Vec<bool> = store
            .entries(author.id, Seq::GENESIS, usize::MAX)
            .unwrap()
            .iter()
            .map(|entry| entry.signature.is_some())
            .collect();
        assert_eq!(signed, [false, false, false, false, true]);
        let from_the_third = store.entries(author.id, Seq(2), usize::MAX).unwrap();
        assert_eq!(from_the_third.len(), 3);
        assert_eq!(store.entries(author.id, Seq(2), 0).unwrap(), from_the_third[..1], "one at least");
    });
}

#[test]
fn the_last_submission_keys_are_remembered_and_the_oldest_forgotten() {
    each_store(|store| {
        let submission = |number: usize| Record::Submission {
            key: format!("key {number}"),
            recorded: Recorded {
                seq: Seq(u64::try_from(number).unwrap()),
                verdict: Verdict::Accepted { reward: MicroAtp::ZERO },
                coherence: Ppm::ONE,
                delta: MicroAtp::ZERO,
                balance: MicroAtp::ZERO,
                trust: Ppm::ONE,
            },
        };
        let records: Vec<Record> = (0..SUBMISSION_KEYS_MAX).map(submission).collect();
        store.commit(&records).unwrap();
        store.commit(&[submission(SUBMISSION_KEYS_MAX), submission(SUBMISSION_KEYS_MAX + 1)]).unwrap();
        let kept: Vec<String> = store.load().unwrap().submissions.into_iter().map(|(key, _)| key).collect();
        assert_eq!(kept.len(), SUBMISSION_KEYS_MAX);
        assert_eq!(kept[0], "key 2");
        assert_eq!(kept[SUBMISSION_KEYS_MAX - 1], format!("key {}", SUBMISSION_KEYS_MAX + 1));
    });
}

#[test]
fn the_peers_that_were_connected_last_are_remembered() {
    each_store(|store| {
        let peer = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&number.to_be_bytes());
            let seen = Millis(START + u64::try_from(number).unwrap());
            let peer = KnownPeer { name: "thor".parse().unwrap(), addresses: vec![], seen };
            Record::Peer { id: NodeId::from_stored(id), peer }
        };
        let records: Vec<Record> = (0..PEERS_MAX + 3).map(peer).collect();
        store.commit(&records).unwrap();
        let peers = store.load().unwrap().peers;
        assert_eq!(peers.len(), PEERS_MAX);
        assert_eq!(peers.values().map(|peer| peer.seen).min(), Some(Millis(START + 3)));
    });
}

#[test]
fn thoughts_of_one_moment_come_in_the_same_order_from_each_store() {
    let mut authors: Vec<Author> = (1..=5).map(Author::new).collect();
    // Not in the order of their ids: the order of arrival must not show.
    authors.sort_by_key(|author| std::cmp::Reverse(author.id));
    let mut records: Vec<Record> = authors.iter_mut().map(|author| author.next("")).collect();
    for number in 0..3 {
        records.extend(authors.iter_mut().map(|author| author.next(&good(number))));
    }
    each_store(|store| {
        store.commit(&records).unwrap();
        let query = ThoughtQuery { limit: 7, ..ThoughtQuery::default() };
        let rows = store.thoughts(&query).unwrap();
        assert_eq!(rows.len(), 7);
        assert!(rows.is_sorted_by_key(|row| (row.time, row.author, row.seq)));
        assert_eq!(rows[0].author, authors[1].id, "of the second round the two largest ids fit");
    });
}

#[test]
fn each_session_counts_its_accepted_thoughts_and_who_wrote_them() {
    each_store(|store| {
        let (mut one, mut other) = (Author::new(1), Author::new(2));
        let mut records = vec![one.next(""), other.next("")];
        for number in 0..4 {
            records.push(one.next(&good(number)));
            let content = if number == 0 { "spam".to_owned() } else { good(number) };
            records.push(other.next(&content));
        }
        store.commit(&records).unwrap();
        let sessions: BTreeMap<String, Session> = store.sessions().unwrap();
        assert_eq!(sessions.keys().collect::<Vec<_>>(), ["even", "odd"]);
        let (even, odd) = (&sessions["even"], &sessions["odd"]);
        assert_eq!((even.thoughts, odd.thoughts), (4, 3), "the rejected one is in none");
        assert!(
            odd.participants.contains(&one.id.to_text()) && odd.participants.contains(&other.id.to_text())
        );
        assert_eq!(even.hardware, BTreeMap::from([("tpm2".to_owned(), 4)]));
        assert_eq!(even.modes, BTreeMap::from([("exploring".to_owned(), 4)]));
        assert!(even.collective_coherence > Ppm(500_000));
    });
}
