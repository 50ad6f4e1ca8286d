//! What is said of images, through the router.

use super::super::super::tests::{batch, ready};
use serde_json::json;

#[tokio::test]
async fn the_least_of_an_image_is_given_and_said() {
    let f = ready().await;
    let body = json!({ "reference": "reg.lab:5000/vision/cuda:12.6",
        "min_slots": { "cpu": "2", "mem": "2g" }, "shm": "128m" });
    let made = f.post("/api/v1/images", &body).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let path = "/api/v1/images/reg.lab:5000%2Fvision%2Fcuda:12.6";
    assert_eq!(f.get(path).await.json()["id"], id.as_str());
    let list = f.get("/api/v1/images?name=vision").await.json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    let mut session = batch();
    session["image"] = json!("reg.lab:5000/vision/cuda:12.6");
    for path in ["/api/v1/sessions/check", "/api/v1/sessions"] {
        let answer = f.post(path, &session).await.json();
        let source = json!({ "kind": "image", "name": "reg.lab:5000/vision/cuda:12.6" });
        let with_shm = ((2i64 << 30) + (128 << 20)).to_string();
        assert_eq!(
            answer["adjusted"],
            json!([
                { "path": "/slots/cpu", "from": "1", "to": "2", "reason": "image-minimum", "source": source },
                { "path": "/slots/mem", "from": "1073741824", "to": with_shm, "reason": "image-minimum", "source": source },
            ]),
            "{answer}"
        );
    }
    let changed = json!({ "min_slots": { "cpu": null, "mem": "0" }, "shm": null });
    let changed = f.patch(path, "\"1\"", &changed).await;
    assert_eq!(changed.status, 200, "{}", changed.text());
    let plain = f.post("/api/v1/sessions/check", &session).await.json();
    assert!(plain.get("adjusted").is_none(), "{plain}");
    let path = format!("/api/v1/images/{id}");
    assert_eq!(f.delete(&path, "\"1\"").await.status, 412);
    assert_eq!(f.delete(&path, "\"2\"").await.status, 204);
    assert_eq!(f.get(&path).await.status, 404);
    // Each of it is in the audit log.
    let records = f.get("/api/v1/audit?operation=image.write").await.json();
    assert_eq!(
        records["items"].as_array().map(Vec::len),
        Some(3),
        "{records}"
    );
}
