/* SPDX-License-Identifier: MPL-2.0 */
/*
 * Names are looked up in the machine's files and by DNS, as programs in Go do it, whatever /etc/nsswitch.conf says.
 *
 * A binary without dynamic dependencies holds these two. Any other service would be loaded from the machine, which works
 * only where its C library is the very one that the binary was built with.
 *
 * Source: "Name Service Switch" and "Static linking" in the manual of the GNU C library.
 */
#include <nss.h>

__attribute__((constructor)) static void use_what_is_built_in(void)
{
    __nss_configure_lookup("hosts", "files dns");
    __nss_configure_lookup("passwd", "files");
    __nss_configure_lookup("group", "files");
    __nss_configure_lookup("services", "files");
}
