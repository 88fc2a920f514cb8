use super::*;

#[tokio::test]
async fn messages_are_cut_at_their_lengths_however_they_arrive() {
    let (mut far, near) = tokio::io::duplex(7);
    let mut messages = Messages::new(near);
    let sent = tokio::spawn(async move {
        write(&mut far, b"first").await.unwrap();
        write(&mut far, &[7; 65_535]).await.unwrap();
        far.write_all(&[0, 9, 1]).await.unwrap();
    });
    assert_eq!(messages.next().await.unwrap().unwrap()[..], b"first"[..]);
    assert_eq!(messages.next().await.unwrap().unwrap()[..], [7; 65_535]);
    assert!(messages.buffer.capacity() < 3 * 65_537);
    assert_eq!(messages.next().await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    sent.await.unwrap();

    let mut empty = Messages::new(&[0, 0, 1][..]);
    assert_eq!(empty.next().await.unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert!(Messages::new(&[][..]).next().await.unwrap().is_none());
    assert!(write(&mut Vec::new(), &[0; 65_536]).await.is_err());
}
