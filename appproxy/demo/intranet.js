"use strict";

function shown(id, text) {
  document.getElementById(id).textContent = text;
}

function address(path) {
  return new URL(path, document.baseURI);
}

function startEcho() {
  const url = address("echo");
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  const badge = document.getElementById("ws-status");
  shown("ws-status", "connecting");
  socket.onopen = () => {
    shown("ws-status", "open");
    badge.classList.add("open");
    socket.send("the page is here");
  };
  socket.onmessage = (event) => shown("ws-echo", "echo: " + event.data);
  socket.onclose = (event) => {
    shown("ws-status", "closed (" + event.code + ")");
    badge.classList.remove("open");
  };
  document.getElementById("ws-form").onsubmit = (event) => {
    event.preventDefault();
    if (socket.readyState === WebSocket.OPEN) {
      socket.send(document.getElementById("ws-text").value);
    }
  };
}

function startClock() {
  new EventSource(address("clock")).onmessage = (event) => shown("clock", event.data);
}

function startUpload() {
  document.getElementById("upload").onsubmit = async (event) => {
    event.preventDefault();
    const file = document.getElementById("upload-file").files[0];
    shown("upload-result", "sending " + file.name + " …");
    try {
      const answer = await fetch(address("upload"), { method: "PUT", body: file });
      const told = await answer.json();
      shown("upload-result", told.bytes + " bytes, SHA-256 " + told.sha256);
    } catch (error) {
      shown("upload-result", "not sent: " + error.message);
    }
  };
}

if (document.getElementById("clock")) {
  startEcho();
  startClock();
  startUpload();
}
