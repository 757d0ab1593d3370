// SPDX-License-Identifier: MPL-2.0

//! The addresses that Neon's connections come from, by region.
//!
//! Neon publishes them as a table on a page (`https://neon.com/docs/introduction/regions#nat-gateway-ip-addresses`) and
//! not through an API, and extends it from time to time. This is a dated copy.

use std::net::Ipv4Addr;

/// The day of the page that the table was copied from.
pub const AS_OF: &str = "2026-04-01";

/// One region and the addresses of its NAT gateways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Its id as Neon's API spells it, as in `aws-us-east-2`.
    pub id: &'static str,
    /// The addresses that connections out of Neon come from.
    pub addresses: &'static [Ipv4Addr],
    /// Why the region is deprecated, if it is.
    pub deprecated: Option<&'static str>,
}

impl Region {
    /// The addresses in the form of firewall rules, each as a network of one: `3.16.227.37/32`.
    pub fn cidrs(&self) -> impl Iterator<Item = String> {
        self.addresses.iter().map(|address| format!("{address}/32"))
    }
}

/// The region of that id.
#[must_use]
pub fn region(id: &str) -> Option<&'static Region> {
    REGIONS.iter().find(|region| region.id == id)
}

/// The error about an unknown id, with the known ones.
#[must_use]
pub fn unknown_region(id: &str) -> String {
    let known: Vec<_> = REGIONS.iter().map(|region| region.id).collect();
    format!("there is no Neon region {id:?} in the table of {AS_OF}; there are: {}", known.join(", "))
}

/// The table, regions in the order of the page, addresses in ascending order.
pub const REGIONS: &[Region] = &[
    Region {
        id: "aws-us-east-1",
        addresses: &[
            Ipv4Addr::new(3, 213, 105, 99),
            Ipv4Addr::new(3, 222, 32, 110),
            Ipv4Addr::new(13, 219, 161, 141),
            Ipv4Addr::new(23, 23, 0, 232),
            Ipv4Addr::new(34, 202, 217, 219),
            Ipv4Addr::new(34, 224, 137, 41),
            Ipv4Addr::new(34, 233, 170, 231),
            Ipv4Addr::new(34, 235, 208, 71),
            Ipv4Addr::new(34, 239, 66, 10),
            Ipv4Addr::new(35, 168, 244, 148),
            Ipv4Addr::new(44, 212, 197, 226),
            Ipv4Addr::new(52, 70, 189, 141),
            Ipv4Addr::new(52, 73, 235, 120),
            Ipv4Addr::new(54, 88, 155, 118),
            Ipv4Addr::new(54, 160, 39, 37),
            Ipv4Addr::new(54, 173, 116, 247),
            Ipv4Addr::new(54, 205, 208, 153),
            Ipv4Addr::new(98, 88, 203, 121),
            Ipv4Addr::new(98, 88, 212, 99),
            Ipv4Addr::new(100, 26, 142, 14),
            Ipv4Addr::new(100, 51, 56, 234),
        ],
        deprecated: None,
    },
    Region {
        id: "aws-us-east-2",
        addresses: &[
            Ipv4Addr::new(3, 16, 227, 37),
            Ipv4Addr::new(3, 128, 6, 252),
            Ipv4Addr::new(3, 128, 125, 142),
            Ipv4Addr::new(3, 129, 145, 179),
            Ipv4Addr::new(3, 139, 7, 20),
            Ipv4Addr::new(3, 139, 195, 115),
            Ipv4Addr::new(16, 58, 110, 55),
            Ipv4Addr::new(16, 58, 110, 124),
            Ipv4Addr::new(16, 58, 110, 255),
            Ipv4Addr::new(18, 116, 233, 216),
            Ipv4Addr::new(18, 117, 39, 4),
            Ipv4Addr::new(18, 217, 181, 229),
            Ipv4Addr::new(52, 15, 165, 218),
        ],
        deprecated: None,
    },
    Region {
        id: "aws-us-west-2",
        addresses: &[
            Ipv4Addr::new(34, 213, 87, 149),
            Ipv4Addr::new(35, 83, 202, 11),
            Ipv4Addr::new(35, 164, 221, 218),
            Ipv4Addr::new(44, 235, 241, 217),
            Ipv4Addr::new(44, 236, 56, 140),
            Ipv4Addr::new(52, 32, 22, 241),
            Ipv4Addr::new(52, 37, 48, 254),
            Ipv4Addr::new(52, 40, 99, 9),
            Ipv4Addr::new(54, 186, 210, 201),
            Ipv4Addr::new(54, 213, 57, 47),
        ],
        deprecated: None,
    },
    Region {
        id: "aws-eu-central-1",
        addresses: &[
            Ipv4Addr::new(3, 66, 63, 165),
            Ipv4Addr::new(3, 123, 76, 138),
            Ipv4Addr::new(3, 125, 57, 42),
            Ipv4Addr::new(3, 125, 234, 79),
            Ipv4Addr::new(18, 156, 24, 144),
            Ipv4Addr::new(18, 158, 63, 175),
            Ipv4Addr::new(18, 194, 181, 241),
            Ipv4Addr::new(18, 198, 137, 195),
            Ipv4Addr::new(52, 58, 17, 95),
        ],
        deprecated: None,
    },
    Region {
        id: "aws-eu-west-2",
        addresses: &[Ipv4Addr::new(3, 10, 42, 8), Ipv4Addr::new(18, 133, 205, 39), Ipv4Addr::new(52, 56, 191, 86)],
        deprecated: None,
    },
    Region {
        id: "aws-ap-southeast-1",
        addresses: &[
            Ipv4Addr::new(3, 1, 239, 32),
            Ipv4Addr::new(47, 131, 90, 115),
            Ipv4Addr::new(52, 76, 51, 78),
            Ipv4Addr::new(54, 254, 50, 26),
            Ipv4Addr::new(54, 254, 92, 70),
            Ipv4Addr::new(54, 255, 161, 23),
        ],
        deprecated: None,
    },
    Region {
        id: "aws-ap-southeast-2",
        addresses: &[
            Ipv4Addr::new(13, 55, 152, 144),
            Ipv4Addr::new(13, 237, 134, 148),
            Ipv4Addr::new(54, 153, 185, 87),
        ],
        deprecated: None,
    },
    Region {
        id: "aws-sa-east-1",
        addresses: &[Ipv4Addr::new(18, 230, 1, 215), Ipv4Addr::new(52, 67, 202, 176), Ipv4Addr::new(54, 232, 117, 41)],
        deprecated: None,
    },
    Region {
        id: "azure-eastus2",
        addresses: &[
            Ipv4Addr::new(48, 211, 218, 176),
            Ipv4Addr::new(48, 211, 218, 194),
            Ipv4Addr::new(48, 211, 218, 200),
        ],
        deprecated: Some("no new projects since 2026-04-02"),
    },
    Region {
        id: "azure-gwc",
        addresses: &[Ipv4Addr::new(20, 52, 100, 129), Ipv4Addr::new(20, 52, 100, 208), Ipv4Addr::new(20, 52, 187, 150)],
        deprecated: Some("no new projects since 2026-04-02"),
    },
    Region {
        id: "azure-westus3",
        addresses: &[Ipv4Addr::new(20, 38, 38, 171), Ipv4Addr::new(20, 168, 0, 32), Ipv4Addr::new(20, 168, 0, 77)],
        deprecated: Some("no new projects since 2026-04-02"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn addresses_are_public() {
        for region in REGIONS {
            assert!(!region.addresses.is_empty(), "{}", region.id);
            for address in region.addresses {
                let [first, second, ..] = address.octets();
                let shared = first == 100 && (64..128).contains(&second);
                let reserved = first == 0 || first >= 224;
                let odd = address.is_private()
                    || address.is_loopback()
                    || address.is_link_local()
                    || address.is_documentation();
                assert!(!shared && !reserved && !odd, "{} of {}", address, region.id);
            }
        }
    }

    #[test]
    fn no_address_stands_twice() {
        let mut seen = BTreeSet::new();
        for region in REGIONS {
            for address in region.addresses {
                assert!(seen.insert(address), "{} of {}", address, region.id);
            }
        }
    }

    #[test]
    fn addresses_are_in_order() {
        for region in REGIONS {
            assert!(region.addresses.is_sorted(), "{}", region.id);
        }
    }

    #[test]
    fn regions_are_found_by_id() {
        let ohio = region("aws-us-east-2").unwrap();
        assert_eq!(ohio.addresses.len(), 13);
        assert_eq!(ohio.cidrs().next().as_deref(), Some("3.16.227.37/32"));
        assert_eq!(region("us-east-2"), None);
        let ids: BTreeSet<_> = REGIONS.iter().map(|region| region.id).collect();
        assert_eq!(ids.len(), REGIONS.len());
    }

    #[test]
    fn azure_is_on_its_way_out() {
        for region in REGIONS {
            assert_eq!(region.deprecated.is_some(), region.id.starts_with("azure-"), "{}", region.id);
        }
    }

    #[test]
    fn the_day_is_a_date() {
        let parts: Vec<u32> = AS_OF.split('-').map(|part| part.parse().unwrap()).collect();
        assert!(matches!(parts.as_slice(), [2024..=2100, 1..=12, 1..=31]));
    }
}
