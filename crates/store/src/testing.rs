//! The suite by which a board is judged: ours, and a stranger's.

use std::{sync::Arc, time::Duration};

use crate::{
    Deadline, Key, Micros,
    board::{Board, Member, Notice, Page, Post},
};

const LIFE: Duration = Duration::from_secs(30);

/// Judges a board by what every board must do. It needs an empty one, and about a second.
///
/// Each claim is a function of its own name, so that a failure says which one does not hold.
///
/// # Panics
///
/// When the board does not do what it must.
pub async fn board(board: Arc<dyn Board>) {
    looking_pins_nothing(&board).await;
    all_on_a_page_are_read_and_pages_stay_apart(&board).await;
    a_member_has_one_notice_the_one_with_the_highest_number(&board).await;
    what_comes_too_late_is_not_taken(&board).await;
    a_notice_goes_when_its_life_is_over_and_others_stay(&board).await;
    ages_grow_by_the_boards_own_clock(&board).await;
    who_leaves_is_no_longer_read(&board).await;
    a_full_page_takes_nobody_new_and_keeps_its_members(&board).await;
}

fn page(name: impl AsRef<[u8]>) -> Key {
    Key::new(name).expect("a page of this suite is a key")
}

async fn look(board: &Arc<dyn Board>, page: &Key) -> Page {
    let deadline = Deadline::after(Duration::from_secs(5));
    let read = board.exchange(page, None, deadline).await;
    read.expect("a board that is judged answers")
}

async fn pin(board: &Arc<dyn Board>, page: &Key, post: &Post) -> Page {
    let deadline = Deadline::after(Duration::from_secs(5));
    let read = board.exchange(page, Some(post), deadline).await;
    read.expect("a board that is judged answers")
}

fn post(member: u128, number: u64, body: &[u8]) -> Post {
    Post::new(Member::new(member), number, Micros::MAX, body.to_vec()).lasting(LIFE)
}

fn bodies(page: &Page) -> Vec<(u128, &[u8])> {
    let notices = page.notices.iter();
    let mut bodies: Vec<_> = notices.map(|it| (it.member.get(), &it.body[..])).collect();
    bodies.sort_unstable();
    bodies
}

async fn looking_pins_nothing(board: &Arc<dyn Board>) {
    let page = page("looking");
    for _ in 0..2 {
        let read = look(board, &page).await;
        assert!(!read.taken && read.notices.is_empty(), "{read:?}");
    }
}

async fn all_on_a_page_are_read_and_pages_stay_apart(board: &Arc<dyn Board>) {
    let long = vec![b'x'; Post::LONGEST];
    let odd: [&[u8]; 6] = [b"", b"1 2 3", b"\0\xff\r\n", b"{}%7D ", b" ", &long];
    let pages: [&[u8]; 5] = [b"a}", b"{a}", b"a%7D", b"A", b"\0"];
    for (at, name) in pages.iter().enumerate() {
        for (member, body) in odd.iter().enumerate() {
            let member = (at * 100 + member) as u128;
            let read = pin(board, &page(name), &post(member, 1, body)).await;
            assert!(read.taken, "{read:?}");
        }
    }
    for (at, name) in pages.iter().enumerate() {
        let read = look(board, &page(name)).await;
        let expected = odd.iter().enumerate();
        let expected: Vec<_> = expected
            .map(|(member, body)| ((at * 100 + member) as u128, *body))
            .collect();
        assert_eq!(bodies(&read), expected, "{name:?}");
    }
}

async fn a_member_has_one_notice_the_one_with_the_highest_number(board: &Arc<dyn Board>) {
    let page = page("numbers");
    let whole = u128::MAX;
    assert!(pin(board, &page, &post(whole, 2, b"second")).await.taken);
    for number in [1, 2] {
        let read = pin(board, &page, &post(whole, number, b"overtaken")).await;
        assert!(!read.taken, "{read:?}");
        let read = look(board, &page).await;
        assert_eq!(bodies(&read), [(whole, &b"second"[..])]);
    }
    let highest = (1 << 53) - 1;
    let read = pin(board, &page, &post(whole, highest, b"third")).await;
    assert!(read.taken, "{read:?}");
    assert_eq!(bodies(&read), [(whole, &b"third"[..])], "one's own is read");
}

async fn what_comes_too_late_is_not_taken(board: &Arc<dyn Board>) {
    let page = page("late");
    let now = look(board, &page).await.now;
    let mut late = post(1, 1, b"late");
    late.not_after = now - Duration::from_millis(1);
    let read = pin(board, &page, &late).await;
    assert!(!read.taken && read.notices.is_empty(), "{read:?}");
    let mut early = post(1, 1, b"in time");
    early.not_after = now + Duration::from_secs(60);
    assert!(pin(board, &page, &early).await.taken);
}

async fn a_notice_goes_when_its_life_is_over_and_others_stay(board: &Arc<dyn Board>) {
    let page = page("life");
    let short = post(1, 7, b"short").lasting(Duration::from_millis(100));
    assert!(pin(board, &page, &short).await.taken);
    assert!(pin(board, &page, &post(2, 1, b"long")).await.taken);
    let short = post(3, 7, b"short as well").lasting(Duration::from_millis(100));
    assert!(pin(board, &page, &short).await.taken);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let read = look(board, &page).await;
    assert_eq!(bodies(&read), [(2, &b"long"[..])]);
}

async fn ages_grow_by_the_boards_own_clock(board: &Arc<dyn Board>) {
    let page = page("ages");
    let before = pin(board, &page, &post(1, 1, b"")).await.now;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let read = look(board, &page).await;
    let [Notice { age, .. }] = read.notices[..] else {
        panic!("one was pinned: {read:?}");
    };
    assert_eq!(age, read.now.saturating_since(before));
    assert!(age >= Duration::from_millis(40), "{age:?}");
}

async fn who_leaves_is_no_longer_read(board: &Arc<dyn Board>) {
    let page = page("leaves");
    assert!(pin(board, &page, &post(1, 1, b"stays")).await.taken);
    assert!(pin(board, &page, &post(2, 1, b"goes")).await.taken);
    let leaves = post(2, 2, b"").lasting(Duration::ZERO);
    let read = pin(board, &page, &leaves).await;
    assert!(read.taken, "{read:?}");
    assert_eq!(bodies(&read), [(1, &b"stays"[..])]);
}

async fn a_full_page_takes_nobody_new_and_keeps_its_members(board: &Arc<dyn Board>) {
    let page = page("full");
    let most = Post::MOST as u128;
    for member in 0..most {
        assert!(pin(board, &page, &post(member, 1, b"")).await.taken);
    }
    let read = pin(board, &page, &post(most, 1, b"one more")).await;
    assert!(!read.taken && read.notices.len() == Post::MOST);
    assert!(pin(board, &page, &post(0, 2, b"still there")).await.taken);
}
