"use strict";
(() => {
  const link = document.getElementById("onward");
  const { does, cookie, age, ticket } = link.dataset;
  const hash = location.hash;
  if (does === "keep") {
    // Nothing after the # is ever sent; on the way through the provider it waits in a cookie of this host.
    if (hash.length > 1 && hash.length <= 1024) {
      const value = encodeURIComponent(hash.slice(1));
      document.cookie = `${cookie}=${value}; Path=/; Max-Age=${age}; Secure; SameSite=Lax`;
    }
    location.replace(link.href);
  } else if (does === "return") {
    location.replace(link.href + hash);
  } else if (does === "frame") {
    let popup = null;
    link.addEventListener("click", (event) => {
      popup = open(link.href, "appproxy-sign-in", "popup,width=520,height=720");
      if (popup) event.preventDefault();
    });
    addEventListener("message", ({ origin, source, data }) => {
      if (popup && source === popup && origin === location.origin && typeof data?.appproxy === "string")
        location.replace(`/.appproxy/ticket?ticket=${encodeURIComponent(data.appproxy)}${hash}`);
    });
  } else if (does === "hand-over" && opener) {
    // Only a page of this very origin gets it, and it works in the frame that asked for it only.
    opener.postMessage({ appproxy: ticket }, location.origin);
    close();
  }
})();
