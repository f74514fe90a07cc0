// The front door: remembers the name, and fills in a room that is pointed at.
const form = document.querySelector("form");
const { name, room } = form.elements;

if (!name.value) name.value = localStorage.getItem("name") ?? "";
form.addEventListener("submit", () => localStorage.setItem("name", name.value.trim()));

for (const button of document.querySelectorAll("[data-room]")) {
  button.addEventListener("click", () => {
    room.value = button.dataset.room;
    (name.value ? form.querySelector(".primary") : name).focus();
  });
}
